//! One write transaction of the ledger: what has been read and changed so far, and the rows still to be written.
//!
//! Goods are read once and written once per transaction, however many bids they get in it; bids, alarms and inbox
//! rows are gathered and written together at the end ([`Tx::flush`]), where an engine may do it its own way.

use std::collections::{HashMap, HashSet, hash_map::Entry};

use diesel::{insert_into, prelude::*, update};

use super::{
    RoomNews, StoreError,
    conn::{DbConn, on_each},
    mark::Mark,
    postgres,
    rows::{AlarmRow, BidRow, InboxRow, StateRow, phase_code},
    schema,
};
use crate::domain::{
    Alarm, AlarmId, AlarmKind, BidId, EventId, GoodsId, GoodsState, LineId, Receiver, Timestamp, TradeMessageId,
    TradeRoomId, User, UserId,
};

/// Receivers of an alarm that are looked up one by one.
const FEW: usize = 8;

/// What the settings say about judging.
#[derive(Debug, Clone, Copy)]
pub struct LedgerRules {
    /// `auction.soft_close_s` in ms.
    pub soft_close_ms: i64,
    /// Other nodes write too (`bus.url`).
    pub several_writers: bool,
}

/// What a committed transaction changed, told to the rest of the house in commit order.
#[derive(Debug, Clone)]
pub enum Committed {
    /// An alarm and the users whose inbox has it.
    Alarm {
        /// The payload.
        alarm: Alarm,
        /// Each of them once.
        receivers: Vec<Receiver>,
    },
    /// New goods: the clock must know their times.
    GoodsMade(GoodsState),
    /// A user is new, renamed, or no longer (or again) active.
    UserChanged(User),
    /// Something happened in the rooms of goods.
    Room(RoomNews),
}

/// The id counters' row, taken when the transaction needs its first id and written back at the end.
#[derive(Queryable, Selectable, AsChangeset, Debug, Clone, Copy, PartialEq, Eq)]
#[diesel(table_name = schema::id_counters)]
pub(crate) struct Counters {
    goods: i64,
    bid: i64,
    alarm: i64,
    trade_room: i64,
    like_mark: i64,
    line: i64,
    trade_message: i64,
}

impl Counters {
    fn read(conn: &mut DbConn) -> Result<Self, StoreError> {
        Ok(on_each!(conn, conn => schema::id_counters::table.select(Self::as_select()).get_result(conn))?)
    }
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
    mark: Mark,
    now: Timestamp,
    rules: LedgerRules,
    counters: Option<Counters>,
    /// The counters' row as it was found.
    found: Option<Counters>,
    goods: HashMap<GoodsId, Option<Held>>,
    bids: Vec<BidRow>,
    /// Alarms whose receivers have no rows yet.
    raised: Vec<(Alarm, Vec<UserId>)>,
    alarms: Vec<AlarmRow>,
    inbox: Vec<InboxRow>,
    /// Newest alarm of each receiver in this transaction, where several nodes write.
    newest: HashMap<UserId, i64>,
    committed: Vec<Committed>,
    fanouts: Vec<EventId>,
}

/// What is left of a transaction once it is committed.
#[derive(Default)]
pub(crate) struct Effects {
    /// What the writer's row says if, and only if, this is committed; `None` if nothing was written that matters.
    pub mark: Option<Mark>,
    pub committed: Vec<Committed>,
    pub fanouts: Vec<EventId>,
}

impl<'c> Tx<'c> {
    pub(crate) fn new(conn: &'c mut DbConn, mark: Mark, now: Timestamp, rules: LedgerRules) -> Self {
        Self {
            conn,
            mark,
            now,
            rules,
            counters: None,
            found: None,
            goods: HashMap::new(),
            bids: Vec::new(),
            raised: Vec::new(),
            alarms: Vec::new(),
            inbox: Vec::new(),
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
        self.bids.push(bid);
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
        let muted = muted(self.conn, &raised)?;
        for (alarm, mut receivers) in raised {
            self.alarms.push(AlarmRow::from(&alarm));
            let (alarm_id, kind) = (alarm.id.get(), alarm.kind.name());
            let is_muted = |user: &UserId| muted.contains(&(kind.to_owned(), user.get()));
            let none = muted.is_empty();
            self.inbox.extend(receivers.iter().map(|user| {
                let muted = !none && is_muted(user);
                InboxRow { user_id: user.get(), alarm_id, is_read: muted, muted }
            }));
            if !none {
                receivers.retain(|user| !is_muted(user));
            }
            let receivers = receivers.into_iter().map(|user| Receiver { user, after: 0 }).collect();
            self.tell(Committed::Alarm { alarm, receivers });
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

    /// Reads these goods at once, where a round trip costs more than a row.
    pub(crate) fn fetch_goods(&mut self, ids: &[GoodsId]) -> Result<(), StoreError> {
        if let DbConn::Pg(conn) = self.conn
            && ids.len() > 1
        {
            let ids: Vec<i64> = ids.iter().map(|id| id.get()).collect();
            for row in postgres::lock_goods(conn, &ids)? {
                let state = GoodsState::try_from(row)?;
                self.goods.insert(state.id, Some(Held { state, lead_changed: false, phase_changed: false }));
            }
        }
        Ok(())
    }

    /// Writes what has been gathered, so that a query of this transaction sees it.
    pub(crate) fn flush(&mut self) -> Result<(), StoreError> {
        self.address_alarms()?;
        let (bids, alarms, inbox) =
            (std::mem::take(&mut self.bids), std::mem::take(&mut self.alarms), std::mem::take(&mut self.inbox));
        match self.conn {
            // Row by row: a multi-row insert gains nothing below 1,000 rows here, and single rows are cached.
            DbConn::Sqlite(conn) => {
                for bid in bids {
                    insert_into(schema::bids::table).values(bid).execute(conn)?;
                }
                for alarm in alarms {
                    insert_into(schema::alarms::table).values(alarm).execute(conn)?;
                }
                for row in inbox {
                    insert_into(schema::inbox::table).values(row).execute(conn)?;
                }
            }
            DbConn::Pg(conn) => {
                postgres::insert_bids(conn, &bids)?;
                postgres::insert_alarms(conn, &alarms)?;
                if self.rules.several_writers {
                    let before = postgres::insert_inbox_after(conn, &inbox)?;
                    link(&mut self.committed, &mut self.newest, &before);
                } else {
                    postgres::insert_inbox(conn, &inbox)?;
                }
                let held = || self.goods.values().flatten().filter(|held| held.lead_changed);
                postgres::update_leads(conn, &held().map(|held| &held.state).collect::<Vec<_>>())?;
                self.goods.values_mut().flatten().for_each(|held| held.lead_changed = false);
            }
        }
        for held in self.goods.values_mut().flatten() {
            write_goods(self.conn, held)?;
        }
        if let Some(counters) = self.moved() {
            on_each!(self.conn, conn => update(schema::id_counters::table).set(counters).execute(conn))?;
        }
        Ok(())
    }

    /// Writes all that is left, and the writer's mark if there is anything that somebody will be told of.
    pub(crate) fn finish(mut self) -> Result<Effects, StoreError> {
        self.flush()?;
        let written = self.moved().is_some() || !self.committed.is_empty();
        let mark = written.then(|| self.mark.next());
        if let Some(mark) = mark {
            mark.write(self.conn)?;
        }
        Ok(Effects { mark, committed: self.committed, fanouts: self.fanouts })
    }

    /// The counters' row, if this transaction has moved it.
    fn moved(&self) -> Option<Counters> {
        self.counters.filter(|now| self.found.as_ref() != Some(now))
    }
}

/// Gives each receiver of the alarms just written what his inbox ended with before: in `before`, by user and alarm, or, if
/// this transaction has written one since, that one.
fn link(committed: &mut [Committed], newest: &mut HashMap<UserId, i64>, before: &HashMap<(i64, i64), i64>) {
    for one in committed {
        let Committed::Alarm { alarm, receivers } = one else { continue };
        for receiver in receivers {
            // Those of an earlier flush are not among them.
            let Some(stored) = before.get(&(receiver.user.get(), alarm.id.get())) else { continue };
            let newest = newest.entry(receiver.user).or_insert(*stored);
            receiver.after = (*newest).max(*stored);
            *newest = alarm.id.get();
        }
    }
}

/// Who of the receivers of these alarms has muted their kinds.
fn muted(conn: &mut DbConn, raised: &[(Alarm, Vec<UserId>)]) -> Result<HashSet<(String, i64)>, StoreError> {
    use schema::mutes::dsl;
    let mut muted = HashSet::new();
    // A fan-out asks for all users between its first and its last: they are its neighbours.
    let (many, few): (Vec<_>, Vec<_>) = raised.iter().partition(|(_, receivers)| receivers.len() > FEW);
    for (alarm, receivers) in many {
        let (Some(first), Some(last)) = (receivers.iter().min(), receivers.iter().max()) else { continue };
        muted.extend(
            dsl::mutes
                .filter(dsl::kind.eq(alarm.kind.name()).and(dsl::user_id.between(first.get(), last.get())))
                .select((dsl::kind, dsl::user_id))
                .load::<(String, i64)>(conn)?,
        );
    }
    match conn {
        DbConn::Sqlite(conn) => {
            for (alarm, receivers) in few {
                for user in receivers {
                    let of_user = dsl::kind.eq(alarm.kind.name()).and(dsl::user_id.eq(user.get()));
                    let found: i64 = dsl::mutes.filter(of_user).count().get_result(conn)?;
                    if found > 0 {
                        muted.insert((alarm.kind.name().to_owned(), user.get()));
                    }
                }
            }
        }
        DbConn::Pg(conn) if !few.is_empty() => {
            let users: Vec<i64> =
                few.iter().flat_map(|(_, receivers)| receivers.iter().map(|user| user.get())).collect();
            let kinds: HashSet<&str> = few.iter().map(|(alarm, _)| alarm.kind.name()).collect();
            let of_them = dsl::kind.eq_any(kinds).and(dsl::user_id.eq_any(users));
            muted.extend(dsl::mutes.filter(of_them).select((dsl::kind, dsl::user_id)).load::<(String, i64)>(conn)?);
        }
        DbConn::Pg(_) => {}
    }
    Ok(muted)
}

/// Two statements, because one that names an indexed column (phase, ends_at) pays for its index at every bid.
fn write_goods(conn: &mut DbConn, held: &mut Held) -> Result<(), StoreError> {
    use schema::goods::dsl;
    let state = &held.state;
    if std::mem::take(&mut held.lead_changed) {
        let lead = update(dsl::goods.filter(dsl::id.eq(state.id.get()))).set((
            dsl::high_price.eq(state.lead.map(|lead| lead.price.won())),
            dsl::high_bidder_id.eq(state.lead.map(|lead| lead.user.get())),
            dsl::bid_seq.eq(state.bid_seq),
        ));
        on_each!(conn, conn => lead.execute(conn))?;
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
