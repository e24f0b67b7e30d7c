//! What the hub does because other nodes write too: it looks every few seconds where the inboxes of its users end, so that
//! what the bus has lost is noticed, whatever the reason; it hears what other nodes tell users; and it says again how many
//! sockets there are when the bus is back.

use std::time::Duration;

use actix::prelude::*;

use super::{
    alarm_hub::AlarmHub,
    encode::{encode, encode_json},
    shard::{InboxesEnd, Seated},
};
use crate::{
    bus::{Bus, NodeId},
    domain::UserId,
    protocol::ServerFrame,
    store::{InboxEnd, Store},
};

/// How often it looks: with the reading after it well within the 5 s in which gaps are to be filled.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// … if something could not be looked up.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// Inboxes of one reading.
const INBOXES: usize = 500;
/// Counts of sockets that are told at once.
const SEATS: usize = 100;

/// There are other nodes.
#[derive(Message)]
#[rtype(result = "()")]
pub struct JoinHub {
    /// The way to them.
    pub bus: Bus,
    /// Where inboxes are looked up.
    pub store: Store,
}

impl Handler<JoinHub> for AlarmHub {
    type Result = ();

    fn handle(&mut self, JoinHub { bus, store }: JoinHub, ctx: &mut Self::Context) {
        self.bus = bus;
        ctx.run_interval(LOOK_EVERY, move |hub, ctx| hub.look(&store, ctx));
    }
}

impl AlarmHub {
    fn look(&mut self, store: &Store, ctx: &mut Context<Self>) {
        if !std::mem::replace(&mut self.looking, true) {
            self.look_on(store.clone(), self.registry.users(), false, ctx);
        }
    }

    /// Looks up the inboxes of some of these, then of the rest; if any could not be looked up, soon again.
    fn look_on(&mut self, store: Store, mut users: Vec<UserId>, failed: bool, ctx: &mut Context<Self>) {
        let some = users.split_off(users.len().saturating_sub(INBOXES));
        if some.is_empty() {
            self.looking = false;
            if failed {
                ctx.run_later(LOOK_AGAIN, move |hub, ctx| hub.look(&store, ctx));
            }
            return;
        }
        let of_store = store.clone();
        let ends = async move { of_store.inbox_ends(some).await };
        ctx.spawn(ends.into_actor(self).map(move |ends, hub, ctx| {
            let has_failed = ends.is_err();
            match ends {
                Ok(ends) => hub.learn(&ends),
                Err(error) => log::debug!("where inboxes end can't be looked up: {error}"),
            }
            hub.look_on(store, users, failed || has_failed, ctx);
        }));
    }

    fn learn(&self, ends: &[InboxEnd]) {
        ends.iter().filter(|end| !end.is_active).for_each(|end| self.refuse(end.user));
        let hearing = |end: &InboxEnd| {
            let newest = end.newest;
            self.registry.hearing(end.user).map(move |seat| (seat, newest))
        };
        let seats: Vec<Vec<Seated>> = self.by_shard(ends.iter().flat_map(hearing));
        for (shard, seats) in self.shards.iter().zip(seats) {
            if !seats.is_empty() {
                shard.inboxes_end(InboxesEnd(seats));
            }
        }
    }
}

/// Another node has told a user something that is no alarm.
#[derive(Message)]
#[rtype(result = "()")]
pub enum HearForUser {
    /// He has read something: what is left, and the newest alarm.
    Unread(UserId, i64, i64),
    /// Something that he sent is refused: JSON.
    Alert(UserId, String),
    /// He has opened more sockets than he may have: this one, of that node, has to go.
    TooMany(NodeId, UserId, u64),
}

impl Handler<HearForUser> for AlarmHub {
    type Result = ();

    fn handle(&mut self, heard: HearForUser, ctx: &mut Self::Context) {
        match heard {
            HearForUser::Unread(user, unread, last_id) => {
                self.tell(user, &encode(&ServerFrame::Unread { unread, last_id }));
            }
            HearForUser::Alert(user, json) => self.tell(user, &encode_json(json)),
            HearForUser::TooMany(node, user, connection) => {
                if self.bus.me() == Some(node) {
                    self.evict(user, connection, ctx);
                }
            }
        }
    }
}

/// The bus is back, and may have forgotten how many sockets there are.
#[derive(Message)]
#[rtype(result = "()")]
pub struct CountSeats;

impl Handler<CountSeats> for AlarmHub {
    type Result = ();

    fn handle(&mut self, _: CountSeats, ctx: &mut Self::Context) {
        self.count_seats(self.registry.users(), ctx);
    }
}

impl AlarmHub {
    /// Has the sessions of these users counted, some users at a time; those that are there when it is their turn.
    fn count_seats(&mut self, mut users: Vec<UserId>, ctx: &mut Context<Self>) {
        let some = users.split_off(users.len().saturating_sub(SEATS));
        if some.is_empty() {
            return;
        }
        let (registry, bus) = (&self.registry, &self.bus);
        let sessions = some.iter().flat_map(|user| registry.registered(*user).map(move |one| (*user, one)));
        let counted = sessions.map(|(user, one)| bus.seat_again(user, one.seat.connection, one.at));
        let counted = futures_util::future::join_all(counted);
        ctx.spawn(counted.into_actor(self).map(move |_, hub, ctx| hub.count_seats(users, ctx)));
    }
}
