//! One write transaction of the ledger: what it has read and changed so far, and which rows it still has to write.
//!
//! Goods are read once and written once per transaction, however many bids they get in it. Bids, alarms and inbox rows
//! are collected and written together by [`Tx::flush`] or [`Tx::finish`], each engine in its own way. `commit_marker`
//! shows after a failure whether a transaction is on disk; `recipients` finds who gets an alarm.

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
    rows::{AlarmRow, BidRow, Counters, InboxEntry, PendingRows, StateRow, phase_code},
    schema,
};
use crate::domain::{
    Alarm, AlarmCursor, AlarmId, AlarmKind, BidId, EventId, GoodsId, GoodsState, LineId, Receiver, Timestamp,
    TradeMessageId, TradeRoomId, UserId,
};

/// An alarm with at most this many inbox rows has them inserted one by one.
const SINGLE_INSERT_LIMIT: usize = 8;

/// Settings that affect what the ledger writes.
#[derive(Debug, Clone, Copy)]
pub struct LedgerRules {
    /// `auction.soft_close_s`, in milliseconds.
    pub soft_close_ms: i64,
    /// Other nodes write to the same database (`bus.url` is set).
    pub several_writers: bool,
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

/// What the writer publishes once a transaction is committed.
#[derive(Default)]
pub(crate) struct Effects {
    /// The marker that is stored if, and only if, this transaction is on disk; `None` if it changed nothing that
    /// anybody is notified of, and used up no id.
    pub marker: Option<CommitMarker>,
    /// Changes for the observer, in order.
    pub committed: Vec<Committed>,
    /// Fan-outs that the ledger continues after this transaction.
    pub fanouts: Vec<EventId>,
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
        let lead_changed = old.is_none_or(|old| old.lead_changed || old.state.bid_seq != state.bid_seq);
        let phase_changed = old.is_none_or(|old| {
            old.phase_changed
                || old.state.phase != state.phase
                || old.state.ends_at != state.ends_at
                || old.state.ending_soon_done != state.ending_soon_done
        });
        self.goods.insert(state.id, Some(CachedGoods { state, lead_changed, phase_changed }));
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

    /// Turns the raised alarms into alarm and inbox rows, and into changes for the observer.
    fn collect_alarms(&mut self) -> Result<(), StoreError> {
        let raised = std::mem::take(&mut self.raised);
        let muted = Muted::find(self.conn, &raised)?;
        for (alarm, mut receivers) in raised {
            self.pending.alarms.push(AlarmRow::from(&alarm));
            let (alarm_id, kind) = (alarm.id.get(), alarm.kind);
            let is_muted = muted.lookup(kind, receivers.len());
            self.pending.inbox.extend(receivers.iter().map(|user| InboxEntry {
                user_id: user.get(),
                alarm_id,
                kind,
                muted: is_muted(*user),
            }));
            receivers.retain(|user| is_muted(*user) != Some(true));
            let receivers = receivers.into_iter().map(|user| Receiver { user, after: AlarmCursor::START }).collect();
            self.committed.push(Committed::Alarm { alarm, receivers });
        }
        Ok(())
    }

    /// Passes a change to the observer once this transaction is committed.
    pub(crate) fn emit(&mut self, committed: Committed) {
        self.committed.push(committed);
    }

    /// Has the ledger continue a fan-out after this transaction.
    pub(crate) fn add_fanout(&mut self, event: EventId) {
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

    pub(crate) fn next_like_id(&mut self) -> Result<i64, StoreError> {
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

    /// Id of the newest like. Likes after it do not belong to an audience that is fixed now.
    pub(crate) fn newest_like(&mut self) -> Result<i64, StoreError> {
        Ok(self.counters()?.like_mark)
    }

    fn counters(&mut self) -> Result<&mut Counters, StoreError> {
        let counters = match self.counters {
            Some(counters) => counters,
            None => *self.counters_before.insert(Counters::read(self.conn)?),
        };
        Ok(self.counters.insert(counters))
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

    /// Writes everything collected so far, so that queries of this transaction see it.
    pub(crate) fn flush(&mut self) -> Result<(), StoreError> {
        self.collect_alarms()?;
        self.write_rows(None)?;
        self.write_goods()
    }

    /// Writes everything that is left: rows, goods, counters and, unless the transaction changed nothing that matters,
    /// the commit marker. The caller commits.
    pub(crate) fn finish(mut self) -> Result<Effects, StoreError> {
        self.collect_alarms()?;
        let counters = self.changed_counters();
        let marker = (counters.is_some() || !self.committed.is_empty()).then(|| self.marker.next());
        let end_is_written = self.write_rows(counters.zip(marker))?;
        self.write_goods()?;
        if !end_is_written {
            if let Some(counters) = counters {
                counters.write(self.conn)?;
            }
            if let Some(marker) = marker {
                marker.write(self.conn)?;
            }
        }
        Ok(Effects { marker, committed: self.committed, fanouts: self.fanouts })
    }

    /// Writes the collected rows. On PostgreSQL the same statement also writes `end`, the counters and the marker, if
    /// there are any rows. Returns whether `end` is written.
    fn write_rows(&mut self, end: Option<(Counters, CommitMarker)>) -> Result<bool, StoreError> {
        let pending = std::mem::take(&mut self.pending);
        match self.conn {
            DbConn::Sqlite(conn) => {
                let mut bidders: HashMap<(i64, i64), (i64, i64)> = HashMap::new();
                for BidRow { id, goods_id, seq, user_id, price, created_at } in pending.bids {
                    statements::run::<AddBid, _>(conn, [id, goods_id, seq, user_id, price, created_at])?;
                    bidders.entry((goods_id, user_id)).or_insert((seq, seq)).1 = seq;
                }
                for ((goods, user), (first, last)) in bidders {
                    statements::run::<RaiseBidder, _>(conn, [goods, user, first, last])?;
                }
                for alarm in pending.alarms {
                    insert_into(schema::alarms::table).values(alarm).execute(conn)?;
                }
                for entries in pending.inbox.chunk_by(|one, next| one.alarm_id == next.alarm_id) {
                    write_inbox(conn, entries)?;
                }
                Ok(false)
            }
            DbConn::Pg(_) if pending.is_empty() => Ok(false),
            DbConn::Pg(conn) => {
                let changed = self.goods.values_mut().flatten().filter(|goods| goods.lead_changed);
                let leads = changed.map(|goods| {
                    goods.lead_changed = false;
                    &goods.state
                });
                let several = self.rules.several_writers;
                let written = Batch::new(&pending, leads.collect(), end, several).write(conn)?;
                recipients::complete(&mut self.committed, &mut self.inbox_ends, &written);
                Ok(end.is_some())
            }
        }
    }

    fn write_goods(&mut self) -> Result<(), StoreError> {
        self.goods.values_mut().flatten().try_for_each(|goods| write_goods(self.conn, goods))
    }

    /// The id counters, if this transaction has used any id.
    fn changed_counters(&self) -> Option<Counters> {
        self.counters.filter(|now| self.counters_before.as_ref() != Some(now))
    }
}

/// Writes the inbox rows of one alarm on SQLite.
fn write_inbox(conn: &mut SqliteConnection, entries: &[InboxEntry]) -> QueryResult<()> {
    let (bulk, single): (Vec<_>, Vec<_>) =
        entries.iter().partition(|entry| entries.len() > SINGLE_INSERT_LIMIT && entry.muted != Some(true));
    if let Some(first) = bulk.first() {
        let users: Vec<i64> = bulk.iter().map(|entry| entry.user_id).collect();
        statements::add_to_inboxes(conn, first.alarm_id, &users)?;
    }
    for entry in single {
        let muted = i64::from(entry.muted.unwrap_or(false));
        statements::run::<AddToInbox, _>(conn, [entry.user_id, entry.alarm_id, muted, muted])?;
    }
    Ok(())
}

/// Writes the changed parts of a goods row. There are two statements, because one that names an indexed column
/// (`phase`, `ends_at`) would update that index at every bid.
fn write_goods(conn: &mut DbConn, goods: &mut CachedGoods) -> Result<(), StoreError> {
    use schema::goods::dsl;
    let state = &goods.state;
    if std::mem::take(&mut goods.lead_changed) {
        let price = state.lead.map(|lead| lead.price.won());
        let bidder = state.lead.map(|lead| lead.user.get());
        match conn {
            DbConn::Sqlite(conn) => {
                let row = [price, bidder, Some(state.bid_seq.get()), Some(state.id.get())];
                statements::run::<SetLead, _>(conn, row)?;
            }
            DbConn::Pg(conn) => {
                let lead =
                    (dsl::high_price.eq(price), dsl::high_bidder_id.eq(bidder), dsl::bid_seq.eq(state.bid_seq.get()));
                update(dsl::goods.filter(dsl::id.eq(state.id.get()))).set(lead).execute(conn)?;
            }
        }
    }
    if std::mem::take(&mut goods.phase_changed) {
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
