//! One write transaction of the ledger: what has been read and changed so far, and the rows still to be written.
//!
//! Goods are read once and written once per transaction, however many bids they get in it; bids, alarms and inbox
//! rows are gathered and written together at the end ([`Tx::flush`]), where an engine may do it its own way.

pub(crate) mod commit_marker;
pub(crate) mod recipients;

use std::collections::{HashMap, hash_map::Entry};

use diesel::{insert_into, prelude::*, update};

use self::{commit_marker::CommitMarker, recipients::Muted};
use super::{
    StoreError,
    engine::{
        DbConn, on_each,
        postgres::batch::{self, Batch},
        sqlite::statements::{self, AddBid, AddToInbox, RaiseBidder, SetLead},
    },
    room_event::Committed,
    rows::{AlarmRow, BidRow, Counters, Gathered, InboxEntry, StateRow, phase_code},
    schema,
};
use crate::domain::{
    Alarm, AlarmId, AlarmKind, BidId, EventId, GoodsId, GoodsState, LineId, Receiver, Timestamp, TradeMessageId,
    TradeRoomId, UserId,
};

/// Inbox rows of an alarm that are written one by one.
const FEW: usize = 8;

/// What the settings say about judging.
#[derive(Debug, Clone, Copy)]
pub struct LedgerRules {
    /// `auction.soft_close_s` in ms.
    pub soft_close_ms: i64,
    /// Other nodes write too (`bus.url`).
    pub several_writers: bool,
}

/// Goods as this transaction sees them.
struct Held {
    state: GoodsState,
    lead_changed: bool,
    phase_changed: bool,
}

/// One open write transaction.
pub struct Tx<'c> {
    pub(crate) conn: &'c mut DbConn,
    /// How far the writer had come before.
    mark: CommitMarker,
    now: Timestamp,
    rules: LedgerRules,
    counters: Option<Counters>,
    /// The counters' row as it was found.
    found: Option<Counters>,
    goods: HashMap<GoodsId, Option<Held>>,
    /// Alarms whose receivers have no rows yet.
    raised: Vec<(Alarm, Vec<UserId>)>,
    gathered: Gathered,
    /// Newest alarm of each receiver in this transaction, where several nodes write.
    newest: HashMap<UserId, i64>,
    committed: Vec<Committed>,
    fanouts: Vec<EventId>,
}

/// What is left of a transaction once it is committed.
#[derive(Default)]
pub(crate) struct Effects {
    /// What the writer's row says if, and only if, this is committed; `None` if nothing was written that matters.
    pub mark: Option<CommitMarker>,
    pub committed: Vec<Committed>,
    pub fanouts: Vec<EventId>,
}

impl<'c> Tx<'c> {
    pub(crate) fn new(conn: &'c mut DbConn, mark: CommitMarker, now: Timestamp, rules: LedgerRules) -> Self {
        Self {
            conn,
            mark,
            now,
            rules,
            counters: None,
            found: None,
            goods: HashMap::new(),
            raised: Vec::new(),
            gathered: Gathered::default(),
            newest: HashMap::new(),
            committed: Vec::new(),
            fanouts: Vec::new(),
        }
    }

    /// When the transaction began.
    pub(crate) fn now(&self) -> Timestamp {
        self.now
    }

    pub(crate) fn rules(&self) -> LedgerRules {
        self.rules
    }

    /// The goods as this transaction sees them; `None` if there are none of that id.
    pub(crate) fn goods(&mut self, id: GoodsId) -> Result<Option<&GoodsState>, StoreError> {
        let held = match self.goods.entry(id) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let row: Option<StateRow> = on_each!(self.conn, conn => {
                    let of_id = schema::goods::table.filter(schema::goods::id.eq(id.get()));
                    of_id.select(StateRow::as_select()).get_result(conn)
                })
                .optional()?;
                let state = row.map(GoodsState::try_from).transpose()?;
                entry.insert(state.map(|state| Held { state, lead_changed: false, phase_changed: false }))
            }
        };
        Ok(held.as_ref().map(|held| &held.state))
    }

    /// Writes down a new state of goods that were read before: with `phase_changed` also phase and end.
    pub(crate) fn put_goods(&mut self, state: GoodsState) {
        let old = self.goods.get(&state.id).and_then(Option::as_ref);
        let lead_changed = old.is_none_or(|old| old.lead_changed || old.state.bid_seq != state.bid_seq);
        let phase_changed = old.is_none_or(|old| {
            old.phase_changed
                || old.state.phase != state.phase
                || old.state.ends_at != state.ends_at
                || old.state.ending_soon_done != state.ending_soon_done
        });
        self.goods.insert(state.id, Some(Held { state, lead_changed, phase_changed }));
    }

    /// The goods are deleted in this transaction.
    pub(crate) fn drop_goods(&mut self, id: GoodsId) {
        self.goods.insert(id, None);
    }

    pub(crate) fn add_bid(&mut self, bid: BidRow) {
        self.gathered.bids.push(bid);
    }

    /// Stores one alarm about goods for these users, each of them once, and returns its id.
    pub(crate) fn raise(
        &mut self,
        kind: AlarmKind,
        goods: &GoodsState,
        trade_room: Option<TradeRoomId>,
        receivers: Vec<UserId>,
    ) -> Result<AlarmId, StoreError> {
        let id = self.next_alarm()?;
        let event = EventId::from_stored(id.get());
        self.add_alarm(Alarm::about(kind, id, event, goods, trade_room, self.now), receivers);
        Ok(id)
    }

    /// Stores one alarm. Who has muted its kind gets it as read, and is not told.
    pub(crate) fn add_alarm(&mut self, alarm: Alarm, receivers: Vec<UserId>) {
        self.raised.push((alarm, receivers));
    }

    /// Gives the raised alarms their inbox rows.
    fn address_alarms(&mut self) -> Result<(), StoreError> {
        let raised = std::mem::take(&mut self.raised);
        let muted = Muted::by(self.conn, &raised)?;
        for (alarm, mut receivers) in raised {
            self.gathered.alarms.push(AlarmRow::from(&alarm));
            let (alarm_id, kind) = (alarm.id.get(), alarm.kind);
            let of = muted.of(kind, receivers.len());
            self.gathered.inbox.extend(receivers.iter().map(|user| InboxEntry {
                user_id: user.get(),
                alarm_id,
                kind,
                muted: of(*user),
            }));
            receivers.retain(|user| of(*user) != Some(true));
            let receivers = receivers.into_iter().map(|user| Receiver { user, after: 0 }).collect();
            self.committed.push(Committed::Alarm { alarm, receivers });
        }
        Ok(())
    }

    /// Tells the rest of the house, once this is committed.
    pub(crate) fn tell(&mut self, committed: Committed) {
        self.committed.push(committed);
    }

    /// A fan-out that this transaction began and the ledger goes on with.
    pub(crate) fn began_fanout(&mut self, event: EventId) {
        self.fanouts.push(event);
    }

    pub(crate) fn next_bid(&mut self) -> Result<BidId, StoreError> {
        let counters = self.counters()?;
        counters.bid += 1;
        Ok(BidId::from_stored(counters.bid))
    }

    pub(crate) fn next_alarm(&mut self) -> Result<AlarmId, StoreError> {
        let counters = self.counters()?;
        counters.alarm += 1;
        Ok(AlarmId::from_stored(counters.alarm))
    }

    pub(crate) fn next_goods(&mut self) -> Result<GoodsId, StoreError> {
        let counters = self.counters()?;
        counters.goods += 1;
        Ok(GoodsId::from_stored(counters.goods))
    }

    pub(crate) fn next_trade_room(&mut self) -> Result<TradeRoomId, StoreError> {
        let counters = self.counters()?;
        counters.trade_room += 1;
        Ok(TradeRoomId::from_stored(counters.trade_room))
    }

    pub(crate) fn next_like(&mut self) -> Result<i64, StoreError> {
        let counters = self.counters()?;
        counters.like_mark += 1;
        Ok(counters.like_mark)
    }

    pub(crate) fn next_line(&mut self) -> Result<LineId, StoreError> {
        let counters = self.counters()?;
        counters.line += 1;
        Ok(LineId::from_stored(counters.line))
    }

    pub(crate) fn next_trade_message(&mut self) -> Result<TradeMessageId, StoreError> {
        let counters = self.counters()?;
        counters.trade_message += 1;
        Ok(TradeMessageId::from_stored(counters.trade_message))
    }

    /// The newest like there is: later ones don't belong to an audience taken now.
    pub(crate) fn like_mark(&mut self) -> Result<i64, StoreError> {
        Ok(self.counters()?.like_mark)
    }

    fn counters(&mut self) -> Result<&mut Counters, StoreError> {
        let counters = match self.counters {
            Some(counters) => counters,
            None => *self.found.insert(Counters::read(self.conn)?),
        };
        Ok(self.counters.insert(counters))
    }

    /// Reads these goods and the counters at once, where a round trip costs more than a row.
    pub(crate) fn fetch_goods(&mut self, ids: &[GoodsId]) -> Result<(), StoreError> {
        if let DbConn::Pg(conn) = self.conn
            && !ids.is_empty()
        {
            let (counters, rows) = batch::read(conn, ids.iter().map(|id| id.get()).collect())?;
            self.counters = Some(*self.found.insert(counters));
            for row in rows {
                let state = GoodsState::try_from(row)?;
                self.goods.insert(state.id, Some(Held { state, lead_changed: false, phase_changed: false }));
            }
        }
        Ok(())
    }

    /// Writes what has been gathered, so that a query of this transaction sees it.
    pub(crate) fn flush(&mut self) -> Result<(), StoreError> {
        self.address_alarms()?;
        self.write_rows(None)?;
        self.write_goods()
    }

    /// Writes all that is left, and the writer's mark if there is anything that somebody will be told of.
    pub(crate) fn finish(mut self) -> Result<Effects, StoreError> {
        self.address_alarms()?;
        let moved = self.moved();
        let mark = (moved.is_some() || !self.committed.is_empty()).then(|| self.mark.next());
        let with_rows = self.write_rows(moved.zip(mark))?;
        self.write_goods()?;
        if !with_rows {
            if let Some(counters) = moved {
                counters.write(self.conn)?;
            }
            if let Some(mark) = mark {
                mark.write(self.conn)?;
            }
        }
        Ok(Effects { mark, committed: self.committed, fanouts: self.fanouts })
    }

    /// Writes the gathered rows, and with them the end of the transaction where that spares its statements: whether it is
    /// written.
    fn write_rows(&mut self, end: Option<(Counters, CommitMarker)>) -> Result<bool, StoreError> {
        let gathered = std::mem::take(&mut self.gathered);
        match self.conn {
            DbConn::Sqlite(conn) => {
                let mut bidders: HashMap<(i64, i64), (i64, i64)> = HashMap::new();
                for BidRow { id, goods_id, seq, user_id, price, created_at } in gathered.bids {
                    statements::run::<AddBid, _>(conn, [id, goods_id, seq, user_id, price, created_at])?;
                    bidders.entry((goods_id, user_id)).or_insert((seq, seq)).1 = seq;
                }
                for ((goods, user), (first, last)) in bidders {
                    statements::run::<RaiseBidder, _>(conn, [goods, user, first, last])?;
                }
                for alarm in gathered.alarms {
                    insert_into(schema::alarms::table).values(alarm).execute(conn)?;
                }
                for of_alarm in gathered.inbox.chunk_by(|one, next| one.alarm_id == next.alarm_id) {
                    write_inbox(conn, of_alarm)?;
                }
                Ok(false)
            }
            DbConn::Pg(_) if gathered.is_empty() => Ok(false),
            DbConn::Pg(conn) => {
                let held = self.goods.values_mut().flatten().filter(|held| held.lead_changed);
                let leads = held.map(|held| {
                    held.lead_changed = false;
                    &held.state
                });
                let several = self.rules.several_writers;
                let written = Batch::of(&gathered, leads.collect(), end, several).write(conn)?;
                recipients::correct(&mut self.committed, &mut self.newest, &written);
                Ok(end.is_some())
            }
        }
    }

    fn write_goods(&mut self) -> Result<(), StoreError> {
        self.goods.values_mut().flatten().try_for_each(|held| write_goods(self.conn, held))
    }

    /// The counters' row, if this transaction has moved it.
    fn moved(&self) -> Option<Counters> {
        self.counters.filter(|now| self.found.as_ref() != Some(now))
    }
}

/// The inbox rows of one alarm.
fn write_inbox(conn: &mut SqliteConnection, entries: &[InboxEntry]) -> QueryResult<()> {
    let (together, alone): (Vec<_>, Vec<_>) =
        entries.iter().partition(|entry| entries.len() > FEW && entry.muted != Some(true));
    if let Some(first) = together.first() {
        let users: Vec<i64> = together.iter().map(|entry| entry.user_id).collect();
        statements::add_to_inboxes(conn, first.alarm_id, &users)?;
    }
    for entry in alone {
        let muted = i64::from(entry.muted.unwrap_or(false));
        statements::run::<AddToInbox, _>(conn, [entry.user_id, entry.alarm_id, muted, muted])?;
    }
    Ok(())
}

/// Two statements, because one that names an indexed column (phase, ends_at) pays for its index at every bid.
fn write_goods(conn: &mut DbConn, held: &mut Held) -> Result<(), StoreError> {
    use schema::goods::dsl;
    let state = &held.state;
    if std::mem::take(&mut held.lead_changed) {
        let price = state.lead.map(|lead| lead.price.won());
        let bidder = state.lead.map(|lead| lead.user.get());
        match conn {
            DbConn::Sqlite(conn) => {
                let row = [price, bidder, Some(state.bid_seq), Some(state.id.get())];
                statements::run::<SetLead, _>(conn, row)?;
            }
            DbConn::Pg(conn) => {
                let lead = (dsl::high_price.eq(price), dsl::high_bidder_id.eq(bidder), dsl::bid_seq.eq(state.bid_seq));
                update(dsl::goods.filter(dsl::id.eq(state.id.get()))).set(lead).execute(conn)?;
            }
        }
    }
    if std::mem::take(&mut held.phase_changed) {
        update(dsl::goods.filter(dsl::id.eq(state.id.get())))
            .set((
                dsl::phase.eq(phase_code(state.phase)),
                dsl::ends_at.eq(state.ends_at.micros()),
                dsl::ending_soon_done.eq(state.ending_soon_done),
            ))
            .execute(conn)?;
    }
    Ok(())
}
