//! Writes what a transaction has collected: bids, alarms, inbox rows, goods, and at its end the counters and the commit
//! marker.

use std::collections::HashMap;

use diesel::{insert_into, prelude::*, update};

use super::{
    CachedGoods, Tx,
    commit_marker::CommitMarker,
    recipients::{self, Muted},
};
use crate::{
    domain::{AlarmCursor, EventId, Receiver},
    store::{
        StoreError,
        engine::{
            DbConn,
            postgres::batch::Batch,
            sqlite::statements::{self, AddBid, AddToInbox, RaiseBidder, SetLead},
        },
        room_event::Committed,
        rows::{BidRow, Counters, InboxEntry, NewAlarmRow, phase_code},
        schema,
    },
};

/// An alarm with at most this many inbox rows has them inserted one by one.
const SINGLE_INSERT_LIMIT: usize = 8;

/// What the writer publishes once a transaction is committed.
#[derive(Default)]
pub(crate) struct Effects {
    /// The marker that is stored if, and only if, this transaction is on disk; `None` if it changed nothing that
    /// anybody is notified of, and used up no id.
    pub marker: Option<CommitMarker>,
    /// Changes for the commit listener, in order.
    pub committed: Vec<Committed>,
    /// Fan-outs that the ledger continues after this transaction.
    pub fanouts: Vec<EventId>,
}

impl Tx<'_> {
    /// Turns the raised alarms into alarm and inbox rows, and into changes for the commit listener.
    fn collect_alarms(&mut self) -> Result<(), StoreError> {
        let raised = std::mem::take(&mut self.raised);
        let muted = Muted::find(self.conn, &raised)?;
        for (alarm, mut receivers) in raised {
            self.pending.alarms.push(NewAlarmRow::new(&alarm, &receivers, self.now));
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
                let written = Batch::new(&pending, leads.collect(), end, self.rules.sharing).write(conn)?;
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
