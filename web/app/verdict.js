// What a room says to its user: whether they lead, are outbid, have won. Everything that shows it asks here.

import { money } from "./format.js";
import { user } from "./session.js";
import { say } from "./words.js";

/** `{ name, look, icon, text, hint? }` for a room's state; `hasBid`: the user has an entry in the book. */
export function verdict(state, hasBid) {
  const { goods, phase, leader, minimum } = state;
  const isSeller = goods.seller.id === user?.id;
  const mine = Boolean(leader) && leader.id === user?.id;
  const is = (name, look, icon, text, hint) => ({ name, look, icon, text, hint });
  if (phase === "scheduled") return isSeller ? is("seller", "", "flag", say("stateSeller")) : is("scheduled", "", "clock", say("stateScheduled"));
  if (phase === "ended") return verdictAtEnd(state, { is, isSeller, mine, hasBid });
  if (mine) return is("lead", "lead", "check", say("stateLead"), say("stateLeadHint"));
  if (isSeller) return is("seller", "", "gavel", leader ? say("stateSellerLead", leader.name) : say("stateSeller"));
  if (!leader) return is("open", "", "flag", say("stateOpen"));
  if (hasBid) return is("out", "out", "up", say("stateOut", leader.name), minimum ? say("stateOutHint", money(minimum)) : undefined);
  return is("watch", "", "gavel", say("stateWatch", leader.name));
}

function verdictAtEnd({ leader, result }, { is, isSeller, mine, hasBid }) {
  if (mine) return is("won", "lead", "check", say("stateWon"), say("stateWonHint"));
  if (leader && isSeller) return is("sold", "lead", "gavel", say("stateSold", leader.name), say("stateSoldHint"));
  if (leader && hasBid) return is("lost", "", "gavel", say("stateLost", leader.name), say("stateLostHint"));
  if (leader) return is("ended", "", "gavel", say("stateEndedSold", leader.name));
  if (result?.reason === "cancelled") return is("cancelled", "", "close", say("stateCancelled"));
  if (result?.reason === "reserve_not_met") return is("unsold", "", "gavel", say("stateReserve"));
  return is("unsold", "", "gavel", say("stateUnsold"));
}
