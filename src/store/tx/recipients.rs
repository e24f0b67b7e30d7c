//! Recipients of alarms: leaves out receivers who have muted an alarm's kind, and finds the newest alarm that each
//! other receiver had before.

use std::collections::{HashMap, HashSet};

use diesel::prelude::*;

use crate::domain::{Alarm, AlarmCursor, AlarmKind, UserId};
use crate::store::{
    StoreError,
    engine::{DbConn, postgres::batch::InsertedInboxRow},
    room_event::Committed,
    schema,
};

/// An alarm with at most this many receivers has their mutes looked up one by one.
const SINGLE_LOOKUP_LIMIT: usize = 8;

/// Receivers whose mutes one statement looks up by their ids.
const NAMED_LOOKUP_LIMIT: usize = 1000;

/// The mutes among the receivers of the raised alarms, looked up before the inbox rows are written.
pub(crate) struct Muted {
    found: HashSet<(AlarmKind, UserId)>,
    /// False on PostgreSQL, where the statement that writes the inbox rows looks up the mutes of small alarms itself,
    /// which saves a round trip.
    knows_small_alarms: bool,
}

impl Muted {
    /// Looks up who of these receivers has muted their alarm's kind.
    pub(crate) fn find(conn: &mut DbConn, raised: &[(Alarm, Vec<UserId>)]) -> Result<Self, StoreError> {
        use schema::mutes::dsl;
        let mut found = HashSet::new();
        let (large, small): (Vec<_>, Vec<_>) =
            raised.iter().partition(|(_, receivers)| receivers.len() > SINGLE_LOOKUP_LIMIT);
        for (alarm, receivers) in large {
            // The receivers of a fan-out's chunk mostly have neighbouring ids, so one range covers them.
            let (Some(first), Some(last)) = (receivers.iter().min(), receivers.iter().max()) else { continue };
            let of_kind = dsl::mutes.filter(dsl::kind.eq(alarm.kind.name())).select(dsl::user_id);
            let in_range = of_kind.filter(dsl::user_id.between(first.get(), last.get()));
            let mut users: Vec<i64> = in_range.limit(receivers.len() as i64 * 2).load(conn)?;
            if users.len() >= receivers.len() * 2 {
                // More mutes than that lie between ids that are far apart.
                users.clear();
                for part in receivers.chunks(NAMED_LOOKUP_LIMIT) {
                    let named = part.iter().map(|user| user.get());
                    users.extend(of_kind.filter(dsl::user_id.eq_any(named)).load::<i64>(conn)?);
                }
            }
            found.extend(users.into_iter().map(|user| (alarm.kind, UserId::from_stored(user))));
        }
        let DbConn::Sqlite(conn) = conn else { return Ok(Self { found, knows_small_alarms: false }) };
        for (alarm, receivers) in small {
            for user in receivers {
                let of_user = dsl::kind.eq(alarm.kind.name()).and(dsl::user_id.eq(user.get()));
                let mutes: i64 = dsl::mutes.filter(of_user).count().get_result(conn)?;
                if mutes > 0 {
                    found.insert((alarm.kind, *user));
                }
            }
        }
        Ok(Self { found, knows_small_alarms: true })
    }

    /// Returns whether a receiver of an alarm with this many receivers has muted its kind; `None` if the
    /// statement that writes the inbox rows looks it up.
    pub(crate) fn lookup(&self, kind: AlarmKind, receivers: usize) -> impl Fn(UserId) -> Option<bool> {
        let known = self.knows_small_alarms || receivers > SINGLE_LOOKUP_LIMIT;
        move |user| known.then(|| !self.found.is_empty() && self.found.contains(&(kind, user)))
    }
}

/// Completes the receivers of the committed alarms from the written inbox rows: removes those who have muted the alarm,
/// and sets `after` of the others to the newest alarm that they had before. That is the one in the database or, if this
/// transaction has written a newer one for them, that one.
pub(crate) fn complete(
    committed: &mut [Committed],
    inbox_ends: &mut HashMap<UserId, AlarmCursor>,
    written: &[InsertedInboxRow],
) {
    if written.is_empty() {
        return;
    }
    let written: HashMap<(i64, i64), &InsertedInboxRow> =
        written.iter().map(|row| ((row.user_id, row.alarm_id), row)).collect();
    for change in committed {
        let Committed::Alarm { alarm, receivers } = change else { continue };
        receivers.retain_mut(|receiver| {
            // Receivers whose rows an earlier flush wrote are complete already.
            let Some(row) = written.get(&(receiver.user.get(), alarm.id.get())) else { return true };
            if !row.muted {
                let previous = AlarmCursor::from_number(row.previous_alarm);
                let end = inbox_ends.entry(receiver.user).or_insert(previous);
                receiver.after = previous.max(*end);
                *end = AlarmCursor::after(alarm.id);
            }
            !row.muted
        });
    }
}
