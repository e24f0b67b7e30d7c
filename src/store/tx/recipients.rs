//! Who of an alarm's receivers has muted its kind, and what the inboxes of the others ended with before.

use std::collections::{HashMap, HashSet};

use diesel::prelude::*;

use crate::domain::{Alarm, AlarmKind, UserId};
use crate::store::{
    StoreError,
    engine::{DbConn, postgres::batch::Entered},
    room_event::Committed,
    schema,
};

/// Receivers of an alarm that are looked up one by one.
const FEW: usize = 8;

/// What is known of mutes before the inbox rows are written.
pub(crate) struct Muted {
    found: HashSet<(AlarmKind, UserId)>,
    /// Those of few receivers are looked up by the statement that writes the rows: it would cost a round trip.
    few_are_known: bool,
}

impl Muted {
    pub(crate) fn by(conn: &mut DbConn, raised: &[(Alarm, Vec<UserId>)]) -> Result<Self, StoreError> {
        use schema::mutes::dsl;
        let mut found = HashSet::new();
        let (many, few): (Vec<_>, Vec<_>) = raised.iter().partition(|(_, receivers)| receivers.len() > FEW);
        for (alarm, receivers) in many {
            // A fan-out asks for all users between its first and its last: they are its neighbours.
            let (Some(first), Some(last)) = (receivers.iter().min(), receivers.iter().max()) else { continue };
            let users: Vec<i64> = dsl::mutes
                .filter(dsl::kind.eq(alarm.kind.name()).and(dsl::user_id.between(first.get(), last.get())))
                .select(dsl::user_id)
                .load(conn)?;
            found.extend(users.into_iter().map(|user| (alarm.kind, UserId::from_stored(user))));
        }
        let DbConn::Sqlite(conn) = conn else { return Ok(Self { found, few_are_known: false }) };
        for (alarm, receivers) in few {
            for user in receivers {
                let of_user = dsl::kind.eq(alarm.kind.name()).and(dsl::user_id.eq(user.get()));
                let mutes: i64 = dsl::mutes.filter(of_user).count().get_result(conn)?;
                if mutes > 0 {
                    found.insert((alarm.kind, *user));
                }
            }
        }
        Ok(Self { found, few_are_known: true })
    }

    /// Whether a user, one of so many receivers, has muted this kind; `None` if that is not known yet.
    pub(crate) fn of(&self, kind: AlarmKind, receivers: usize) -> impl Fn(UserId) -> Option<bool> {
        let known = self.few_are_known || receivers > FEW;
        move |user| known.then(|| !self.found.is_empty() && self.found.contains(&(kind, user)))
    }
}

/// What the written rows say of the receivers of their alarms: who has muted them is no receiver; the others learn what
/// their inboxes ended with before: in the database or, if this transaction has written one since, with that one.
pub(crate) fn correct(committed: &mut [Committed], newest: &mut HashMap<UserId, i64>, entered: &[Entered]) {
    if entered.is_empty() {
        return;
    }
    let entered: HashMap<(i64, i64), &Entered> = entered.iter().map(|one| ((one.user_id, one.alarm_id), one)).collect();
    for one in committed {
        let Committed::Alarm { alarm, receivers } = one else { continue };
        receivers.retain_mut(|receiver| {
            // Those of an earlier flush are not among them.
            let Some(row) = entered.get(&(receiver.user.get(), alarm.id.get())) else { return true };
            if !row.muted {
                let newest = newest.entry(receiver.user).or_insert(row.after);
                receiver.after = (*newest).max(row.after);
                *newest = alarm.id.get();
            }
            !row.muted
        });
    }
}
