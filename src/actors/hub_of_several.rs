//! What the hub does because other nodes write too: it looks every few seconds where the inboxes of its users end, so that
//! what the bus has lost is noticed, whatever the reason; it hears what other nodes tell users; and it says again how many
//! sockets there are when the bus is back.

use std::time::Duration;

use actix::prelude::*;

use super::{
    hub::AlarmHub,
    shard::{InboxesEnd, Seated},
    wire::{encode, encode_json},
};
use crate::{
    bus::Bus,
    domain::UserId,
    protocol::ServerFrame,
    store::{InboxEnd, Store, StoreError},
};

/// How often it looks: with the reading after it well within the 5 s in which gaps are to be filled.
const LOOK_EVERY: Duration = Duration::from_secs(3);
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

async fn ends(store: Store, users: Vec<UserId>) -> Result<Vec<InboxEnd>, StoreError> {
    let mut ends = Vec::with_capacity(users.len());
    for some in users.chunks(INBOXES) {
        ends.extend(store.inbox_ends(some.to_vec()).await?);
    }
    Ok(ends)
}

impl AlarmHub {
    fn look(&mut self, store: &Store, ctx: &mut Context<Self>) {
        if self.looking {
            return;
        }
        self.looking = true;
        let ends = ends(store.clone(), self.registry.users());
        ctx.spawn(ends.into_actor(self).map(|ends, hub, _| {
            hub.looking = false;
            match ends {
                Ok(ends) => hub.learn(&ends),
                Err(error) => log::warn!("where inboxes end can't be looked up: {error}"),
            }
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
}

impl Handler<HearForUser> for AlarmHub {
    type Result = ();

    fn handle(&mut self, heard: HearForUser, _: &mut Self::Context) {
        match heard {
            HearForUser::Unread(user, unread, last_id) => {
                self.tell(user, &encode(&ServerFrame::Unread { unread, last_id }));
            }
            HearForUser::Alert(user, json) => self.tell(user, &encode_json(json)),
        }
    }
}

/// The bus is back on one of its two ways, and may have forgotten how many sockets there are.
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
    /// Tells the counts of these users, some at a time; each as it is when it is told.
    fn count_seats(&mut self, mut users: Vec<UserId>, ctx: &mut Context<Self>) {
        let some = users.split_off(users.len().saturating_sub(SEATS));
        if some.is_empty() {
            return;
        }
        let told = some.into_iter().map(|user| self.bus.seated(user, self.registry.count(user)));
        let told = futures_util::future::join_all(told);
        ctx.spawn(told.into_actor(self).map(move |_, hub, ctx| hub.count_seats(users, ctx)));
    }
}
