//! One write transaction of the ledger: what it has read and changed so far, and which rows it still has to write.
//!
//! Goods are read once and written once per transaction, however many bids they get in it. Bids, alarms and inbox rows
//! are collected here.
//!
//! - `flush`: writes what was collected, each engine in its own way
//! - `ids`: the next ids
//! - `recipients`: who gets an alarm
//! - `collapse`: which alarm an alarm supersedes
//! - `commit_marker`: shows after a failure whether a transaction is on disk

mod collapse;
pub(crate) mod commit_marker;
pub(crate) mod flush;
mod ids;
pub(crate) mod recipients;

use std::collections::{HashMap, hash_map::Entry};

use diesel::prelude::*;

use self::commit_marker::CommitMarker;
use super::{
    StoreError,
    engine::{DbConn, on_each, postgres::batch, sharing::Sharing},
    room_event::Committed,
    rows::{BidRow, Counters, PendingRows, StateRow},
    schema,
};
use crate::domain::{
    Alarm, AlarmCursor, AlarmId, AlarmKind, CollapseKey, EventId, GoodsId, GoodsState, Timestamp, TradeRoomId, UserId,
};

/// Settings that affect what the ledger writes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LedgerRules {
    pub soft_close_ms: i64,
    /// Whether other nodes write to the same database.
    pub sharing: Sharing,
}

/// Goods as this transaction sees them, and which parts of their row it has to write.
struct CachedGoods {
    state: GoodsState,
    lead_changed: bool,
    phase_changed: bool,
}

/// An open write transaction of the ledger.
pub struct Tx<'c> {
    pub(crate) conn: &'c mut DbConn,
    /// Marker of the writer's previous transaction.
    marker: CommitMarker,
    now: Timestamp,
    rules: LedgerRules,
    /// The id counters now; `None` until an id is needed.
    counters: Option<Counters>,
    /// The id counters as this transaction read them.
    counters_before: Option<Counters>,
    goods: HashMap<GoodsId, Option<CachedGoods>>,
    /// Alarms without inbox rows so far, with their receivers.
    raised: Vec<(Alarm, Vec<UserId>)>,
    /// Rows that are not written yet.
    pending: PendingRows,
    /// The ends of the inboxes that this transaction has written to. Used only if several nodes write.
    inbox_ends: HashMap<UserId, AlarmCursor>,
    committed: Vec<Committed>,
    fanouts: Vec<EventId>,
}

impl<'c> Tx<'c> {
    pub(crate) fn new(conn: &'c mut DbConn, marker: CommitMarker, now: Timestamp, rules: LedgerRules) -> Self {
        Self {
            conn,
            marker,
            now,
            rules,
            counters: None,
            counters_before: None,
            goods: HashMap::new(),
            raised: Vec::new(),
            pending: PendingRows::default(),
            inbox_ends: HashMap::new(),
            committed: Vec::new(),
            fanouts: Vec::new(),
        }
    }

    /// Time at which the transaction began.
    pub(crate) fn now(&self) -> Timestamp {
        self.now
    }

    pub(crate) fn rules(&self) -> LedgerRules {
        self.rules
    }

    /// The goods as this transaction sees them; `None` if they do not exist.
    pub(crate) fn goods(&mut self, id: GoodsId) -> Result<Option<&GoodsState>, StoreError> {
        let cached = match self.goods.entry(id) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let row: Option<StateRow> = on_each!(self.conn, conn => {
                    let of_id = schema::goods::table.filter(schema::goods::id.eq(id.get()));
                    of_id.select(StateRow::as_select()).get_result(conn)
                })
                .optional()?;
                let state = row.map(GoodsState::try_from).transpose()?;
                entry.insert(state.map(|state| CachedGoods { state, lead_changed: false, phase_changed: false }))
            }
        };
        Ok(cached.as_ref().map(|cached| &cached.state))
    }

    /// Sets a new state of goods that this transaction has read. [`Tx::flush`] and [`Tx::finish`] write what has
    /// changed.
    pub(crate) fn set_goods(&mut self, state: GoodsState) {
        let old = self.goods.get(&state.id).and_then(Option::as_ref);
        let lead_changed = old
            .is_none_or(|old| old.lead_changed || (old.state.bid_seq, old.state.lead) != (state.bid_seq, state.lead));
        let phase_changed = old.is_none_or(|old| {
            old.phase_changed
                || old.state.phase != state.phase
                || old.state.ends_at != state.ends_at
                || old.state.ending_soon_done != state.ending_soon_done
        });
        self.goods.insert(state.id, Some(CachedGoods { state, lead_changed, phase_changed }));
    }

    /// Replaces what this transaction has read of goods by what it has written itself.
    pub(crate) fn replace_goods(&mut self, state: GoodsState) {
        if let Some(Some(cached)) = self.goods.get_mut(&state.id) {
            cached.state = state;
        }
    }

    /// Notes that this transaction has deleted the goods.
    pub(crate) fn remove_goods(&mut self, id: GoodsId) {
        self.goods.insert(id, None);
    }

    /// Adds an accepted bid, to be written by the next flush.
    pub(crate) fn add_bid(&mut self, bid: BidRow) {
        self.pending.bids.push(bid);
    }

    /// Raises a new alarm about goods for these users, each named once, and returns its id.
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

    /// Adds an alarm to the inboxes of its receivers. Those who have muted its kind get it as read and are not
    /// notified.
    pub(crate) fn add_alarm(&mut self, alarm: Alarm, receivers: Vec<UserId>) {
        self.raised.push((alarm, receivers));
    }

    /// Adds an alarm that supersedes what its receivers have not read of the same key.
    pub(crate) fn add_superseding(
        &mut self,
        alarm: Alarm,
        receivers: Vec<UserId>,
        key: &CollapseKey,
    ) -> Result<(), StoreError> {
        let (id, users) = (alarm.id, receivers.clone());
        self.add_alarm(alarm, receivers);
        // Also alarms of this key that this transaction has added before.
        self.flush()?;
        collapse::take_over(self.conn, key, id, &users)
    }

    /// Passes a change to the commit listener once this transaction is committed.
    pub(crate) fn emit(&mut self, committed: Committed) {
        self.committed.push(committed);
    }

    /// Has the ledger continue a fan-out after this transaction.
    pub(crate) fn add_fanout(&mut self, event: EventId) {
        self.fanouts.push(event);
    }

    /// On PostgreSQL, reads these goods and the counters in one statement, because a round trip costs more than a row.
    pub(crate) fn preload_goods(&mut self, ids: &[GoodsId]) -> Result<(), StoreError> {
        if let DbConn::Pg(conn) = self.conn
            && !ids.is_empty()
        {
            let (counters, rows) = batch::read(conn, ids.iter().map(|id| id.get()).collect())?;
            self.counters = Some(*self.counters_before.insert(counters));
            for row in rows {
                let state = GoodsState::try_from(row)?;
                self.goods.insert(state.id, Some(CachedGoods { state, lead_changed: false, phase_changed: false }));
            }
        }
        Ok(())
    }
}
