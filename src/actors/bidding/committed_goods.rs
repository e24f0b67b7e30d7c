//! The last committed state of goods under bid, from which a bid may be refused at once. The bid actor of the goods
//! owns it; ingress and the bid queue read it, so a certain refusal passes through no actor.
//!
//! A bid is never accepted from here. While a batch of the goods is in flight, their price counts as unknown, because
//! everybody can read the new one as soon as the commit is on disk. The state is updated on the ledger's thread, after
//! the commit and before its answers. So a bidder who knows a price is never refused at an older one.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use crate::{
    domain::{Bid, GoodsId, GoodsState, Phase, Refusal},
    store::Sharing,
};

/// The newest known committed state of one goods item.
pub(crate) struct CommittedState {
    /// With several nodes the remembered price is soon out of date. It would still refuse rightly, but name an old
    /// price, so only an end, which is final, is remembered then.
    sharing: Sharing,
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    goods: Option<GoodsState>,
    /// The auction is cancelled: whatever comes later, it has ended.
    cancelled: bool,
    /// The goods are deleted: later updates are ignored.
    forgotten: bool,
}

impl CommittedState {
    pub(crate) fn new(sharing: Sharing) -> Arc<Self> {
        Arc::new(Self { sharing, state: RwLock::default() })
    }

    /// Takes a committed state, unless it is older than the one at hand.
    pub(crate) fn update(&self, goods: &GoodsState) {
        // Before the start the backend may still change the goods.
        let may_change = goods.phase == Phase::Scheduled || self.sharing == Sharing::Shared;
        if may_change && goods.phase != Phase::Ended {
            return;
        }
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let is_newer = |committed: &GoodsState| committed.bid_seq <= goods.bid_seq && committed.phase != Phase::Ended;
        if !state.forgotten && state.goods.as_ref().is_none_or(is_newer) {
            // A batch that was written before the cancel, in its transaction, still calls the auction live.
            let phase = if state.cancelled { Phase::Ended } else { goods.phase };
            state.goods = Some(GoodsState { phase, ..goods.clone() });
        }
    }

    /// Remembers that the auction is cancelled. Such an end does not wait in the queue of the goods' bids.
    fn cancel(&self) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.cancelled = true;
        if let Some(goods) = &mut state.goods {
            goods.phase = Phase::Ended;
        }
    }

    /// Forgets the price until the next update: a batch is on its way to the disk. An end is final and stays.
    pub(crate) fn forget_price(&self) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.goods.take_if(|goods| goods.phase != Phase::Ended);
    }

    /// Forgets the goods for good: they are deleted.
    pub(crate) fn forget(&self) {
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = State { forgotten: true, ..State::default() };
    }

    /// The refusal that is certain whatever has been committed since; `None` if only the ledger can judge the bid.
    pub(crate) fn certain_refusal(&self, bid: &Bid) -> Option<Refusal> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.goods.as_ref().and_then(|goods| goods.certain_refusal(bid))
    }
}

/// The committed states of all goods that have a bid actor. The limit of actors bounds it.
pub struct CommittedGoods {
    sharing: Sharing,
    states: RwLock<HashMap<GoodsId, Arc<CommittedState>>>,
}

impl CommittedGoods {
    /// Knows nothing yet. `sharing` says whether other nodes write to the database.
    pub fn new(sharing: Sharing) -> Self {
        Self { sharing, states: RwLock::default() }
    }

    /// Adds the state of these goods, of which nothing is known yet, in place of an earlier one.
    pub(crate) fn add(&self, goods: GoodsId) -> Arc<CommittedState> {
        let committed = CommittedState::new(self.sharing);
        self.states.write().unwrap_or_else(PoisonError::into_inner).insert(goods, Arc::clone(&committed));
        committed
    }

    pub(crate) fn remove(&self, goods: GoodsId) {
        self.states.write().unwrap_or_else(PoisonError::into_inner).remove(&goods);
    }

    /// Remembers that the auction of these goods is cancelled.
    pub(crate) fn cancel(&self, goods: GoodsId) {
        if let Some(committed) = self.states.read().unwrap_or_else(PoisonError::into_inner).get(&goods) {
            committed.cancel();
        }
    }

    /// The certain refusal of a bid; `None` if only the ledger can judge it.
    pub(crate) fn certain_refusal(&self, bid: &Bid) -> Option<Refusal> {
        let committed = self.states.read().unwrap_or_else(PoisonError::into_inner);
        committed.get(&bid.goods)?.certain_refusal(bid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Price, Timestamp, UserId};

    fn bid(price: i64) -> Bid {
        let (goods, user) = (GoodsId::from_stored(1), UserId::from_stored(2));
        Bid { goods, user, price: Price::from_stored(price), received_at: Timestamp::from_secs(100) }
    }

    #[test]
    fn only_committed_facts_refuse_and_an_older_state_is_ignored() {
        let committed = CommittedState::new(Sharing::Exclusive);
        assert_eq!(committed.certain_refusal(&bid(1)), None, "nothing is committed yet");
        committed.update(&GoodsState::live_at(50));
        committed.update(&GoodsState::live_at(40));
        assert!(matches!(committed.certain_refusal(&bid(45)), Some(Refusal::TooLow { .. })));
        assert_eq!(committed.certain_refusal(&bid(51)), None, "only the ledger accepts");
        committed.forget_price();
        assert_eq!(committed.certain_refusal(&bid(45)), None, "a newer price may be on disk");
        committed.update(&GoodsState { phase: Phase::Ended, ..GoodsState::live_at(60) });
        committed.update(&GoodsState::live_at(70));
        committed.forget_price();
        assert_eq!(committed.certain_refusal(&bid(99)), Some(Refusal::Ended), "an end is final");
        committed.forget();
        committed.update(&GoodsState::live_at(80));
        assert_eq!(committed.certain_refusal(&bid(1)), None, "the ledger answers for deleted goods");
    }

    #[test]
    fn with_several_nodes_only_an_end_refuses() {
        let committed = CommittedState::new(Sharing::Shared);
        committed.update(&GoodsState::live_at(50));
        assert_eq!(committed.certain_refusal(&bid(45)), None, "only the ledger knows the price");
        committed.update(&GoodsState { phase: Phase::Ended, ..GoodsState::live_at(50) });
        assert_eq!(committed.certain_refusal(&bid(45)), Some(Refusal::Ended));
    }

    #[test]
    fn a_cancel_is_remembered_whatever_comes_after_it() {
        let all = CommittedGoods::new(Sharing::Exclusive);
        let goods = GoodsId::from_stored(1);
        let committed = all.add(goods);
        committed.update(&GoodsState::live_at(50));
        all.cancel(goods);
        assert_eq!(all.certain_refusal(&bid(45)), Some(Refusal::Ended), "not too low");
        let committed = all.add(goods);
        all.cancel(goods);
        assert_eq!(all.certain_refusal(&bid(60)), None, "nothing else is known");
        committed.update(&GoodsState::live_at(50));
        assert_eq!(all.certain_refusal(&bid(60)), Some(Refusal::Ended), "that batch came before the cancel");
    }

    #[test]
    fn only_goods_with_an_actor_are_remembered() {
        let all = CommittedGoods::new(Sharing::Exclusive);
        assert_eq!(all.certain_refusal(&bid(1)), None);
        all.add(GoodsId::from_stored(1)).update(&GoodsState::live_at(50));
        assert!(all.certain_refusal(&bid(1)).is_some());
        all.remove(GoodsId::from_stored(1));
        assert_eq!(all.certain_refusal(&bid(1)), None);
    }
}
