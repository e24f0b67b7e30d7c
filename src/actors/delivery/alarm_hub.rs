//! The `AlarmHub`: every session is registered here by its user's id; committed alarms go from here to the sessions
//! of their receivers. Who is connected is in `registry`, what waits for a session in its `outbox`.
//!
//! The database is the truth and the hub only a nudge: what it misses, the sessions read from the store.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use actix::prelude::*;
use bytes::Bytes;

use super::{
    encode::{encode, encode_alarm, payload},
    registry::{Registered, Registry, Seat},
    shard::{CloseSeats, Delivery, Push, Seated, ShardLink, ShardStats},
};
use crate::{
    bus::{Bus, BusMessage, Channel, IfFull, Seating, SocketOf},
    domain::{Alarm, AlarmId, Locale, Receiver, Timestamp, UserId},
    protocol::{Close, ServerFrame},
    store::{Ledger, writes::MarkReceived},
};

/// Commits that may wait for the hub; beyond, the sessions read the store.
const MAILBOX: usize = 4096;
/// How long after the last time received marks are written down, how many at once, and how long that may take.
const MARKS_EVERY: Duration = Duration::from_millis(250);
const MARKS_AT_ONCE: usize = 2000;
const MARKS_PATIENCE: Duration = Duration::from_secs(2);

/// The language of texts as it is set now.
pub type LocaleSource = Box<dyn Fn() -> Locale + Send>;

/// One for the whole node.
pub struct AlarmHub {
    pub(crate) registry: Registry,
    pub(crate) shards: Vec<ShardLink>,
    pub(crate) bus: Bus,
    /// Ends of inboxes are being looked up.
    pub(crate) looking: bool,
    stats: Arc<ShardStats>,
    locale: LocaleSource,
    max_per_user: usize,
    /// Set by who found the hub's mailbox full.
    missed: Arc<AtomicBool>,
    resyncs: u64,
    /// Sessions that had to go because their user opened newer ones.
    evicted: u64,
    ledger: Option<Ledger>,
    writing_marks: bool,
    /// The next time that marks are written is set.
    marks_are_due: bool,
}

impl AlarmHub {
    /// Starts a hub without sessions. `missed` is set by whoever can't hand a commit over because the mailbox is full.
    pub fn open(
        locale: LocaleSource,
        max_per_user: usize,
        stats: Arc<ShardStats>,
        missed: Arc<AtomicBool>,
    ) -> Addr<Self> {
        Self::create(|ctx| {
            ctx.set_mailbox_capacity(MAILBOX);
            Self {
                registry: Registry::default(),
                shards: Vec::new(),
                bus: Bus::off(),
                looking: false,
                stats,
                locale,
                max_per_user,
                missed,
                resyncs: 0,
                evicted: 0,
                ledger: None,
                writing_marks: false,
                marks_are_due: false,
            }
        })
    }

    /// These seats, by shard, each with the alarm before.
    pub(crate) fn by_shard(&self, all: impl Iterator<Item = (Seat, i64)>) -> Vec<Vec<Seated>> {
        let mut seats: Vec<Vec<Seated>> = vec![Vec::new(); self.shards.len()];
        for (Seat { shard, slot, connection }, after) in all {
            if let Some(seats) = seats.get_mut(shard) {
                seats.push(Seated { slot, connection, after });
            }
        }
        seats
    }

    /// Tells the user's alarm sessions here something that is no alarm.
    pub(crate) fn tell(&self, user: UserId, frame: &Bytes) {
        let hearing = self.registry.hearing(user).map(|seat| (seat, 0));
        for (shard, seats) in self.shards.iter().zip(self.by_shard(hearing)) {
            if !seats.is_empty() {
                shard.tell(Push(vec![Delivery { alarm: None, frame: frame.clone(), seats }]));
            }
        }
    }

    /// Wakes each shard that has something to do, once.
    fn push(&self, pushes: Vec<Vec<Delivery>>) {
        for (shard, push) in self.shards.iter().zip(pushes) {
            if !push.is_empty() {
                shard.push(Push(push));
            }
        }
    }

    fn close(&self, seats: impl Iterator<Item = Seat>, close: Close) {
        for (shard, which) in self.shards.iter().zip(self.by_shard(seats.map(|seat| (seat, 0)))) {
            if !which.is_empty() {
                shard.close(CloseSeats::Some(which, close));
            }
        }
    }

    /// The user's sessions here end.
    pub(crate) fn refuse(&self, user: UserId) {
        self.close(self.registry.all(user), Close::TokenRefused);
    }

    /// A session gives its seat back, once.
    fn leave(&mut self, user: UserId, connection: u64, ctx: &mut Context<Self>) -> Option<Seat> {
        let Registered { seat, hears_alarms, is_counted, .. } = self.registry.leave(user, connection)?;
        if self.bus.is_on() {
            if hears_alarms {
                self.bus.release(Channel::User(user));
            }
            // Otherwise when the answer to its count is there, which this must not overtake.
            if is_counted {
                ctx.spawn(self.bus.unseat(user, connection).into_actor(self));
            }
            // He may come back on another node, which knows only what is on disk.
            if self.registry.received_mark(user).is_some() {
                self.write_marks(ctx);
            }
        }
        Some(seat)
    }

    /// A session ends because its user has opened newer ones, here or elsewhere. From here on it is not one of his any
    /// more, however long its client takes to notice.
    pub(crate) fn evict(&mut self, user: UserId, connection: u64, ctx: &mut Context<Self>) {
        if let Some(seat) = self.leave(user, connection, ctx) {
            self.evicted += 1;
            self.close(std::iter::once(seat), Close::TooManySockets);
        }
    }

    /// The bus has answered for a session whether it may stay, and who has to go for it.
    fn seated(&mut self, user: UserId, connection: u64, seating: &Seating, ctx: &mut Context<Self>) {
        if !self.registry.counted(user, connection) {
            ctx.spawn(self.bus.unseat(user, connection).into_actor(self));
        }
        let Seating::Counted(gone) = seating else { return };
        for SocketOf { node, connection } in gone {
            if self.bus.me() == Some(*node) {
                self.evict(user, *connection, ctx);
            } else {
                self.bus.tell_all(BusMessage::TooMany { node: *node, user, connection: *connection });
            }
        }
    }

    /// Has marks written soon, if there are any. Most of the time there are none, and nothing is woken for them.
    fn plan_marks(&mut self, ctx: &mut Context<Self>) {
        if self.marks_are_due || self.writing_marks || !self.registry.has_marks() {
            return;
        }
        self.marks_are_due = true;
        ctx.run_later(MARKS_EVERY, |hub, ctx| {
            hub.marks_are_due = false;
            hub.write_marks(ctx);
            hub.plan_marks(ctx);
        });
    }

    fn write_marks(&mut self, ctx: &mut Context<Self>) {
        let Some(ledger) = self.ledger.as_ref().filter(|_| !self.writing_marks) else { return };
        let marks = self.registry.marks_to_write(MARKS_AT_ONCE);
        if marks.is_empty() {
            return;
        }
        self.writing_marks = true;
        let me = ctx.address();
        ledger.submit(MarkReceived(marks.clone()), Instant::now() + MARKS_PATIENCE, move |result| {
            me.do_send(MarksWritten(result.map(|()| marks).unwrap_or_default()));
        });
    }
}

impl Actor for AlarmHub {
    type Context = Context<Self>;
}

/// Received marks are on disk (none of them, if the write failed: they are tried again).
#[derive(Message)]
#[rtype(result = "()")]
struct MarksWritten(Vec<(UserId, AlarmId)>);

impl Handler<MarksWritten> for AlarmHub {
    type Result = ();

    fn handle(&mut self, MarksWritten(marks): MarksWritten, ctx: &mut Self::Context) {
        self.writing_marks = false;
        self.registry.marks_written(&marks);
        self.plan_marks(ctx);
    }
}

/// The ledger is running: received marks can be written.
#[derive(Message)]
#[rtype(result = "()")]
pub struct UseLedger(pub Ledger);

impl Handler<UseLedger> for AlarmHub {
    type Result = ();

    fn handle(&mut self, UseLedger(ledger): UseLedger, _: &mut Self::Context) {
        self.ledger = Some(ledger);
    }
}

/// A worker brings its shard.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct AttachShard {
    pub index: usize,
    pub link: ShardLink,
}

impl Handler<AttachShard> for AlarmHub {
    type Result = ();

    fn handle(&mut self, AttachShard { index, link }: AttachShard, _: &mut Self::Context) {
        // Workers come in any order; a place that isn't taken yet is never addressed.
        while self.shards.len() <= index {
            self.shards.push(link.clone());
        }
        self.shards[index] = link;
    }
}

/// A session of a user begins.
#[derive(Message)]
#[rtype(result = "Result<Admitted, TooManySockets>")]
pub(crate) struct Register {
    pub user: UserId,
    pub seat: Seat,
    /// Whether it wants to be told of its user's alarms; otherwise it is in a room.
    pub hears_alarms: bool,
    /// Who goes if the user has `session.max_per_user` sockets.
    pub if_full: IfFull,
    /// Now.
    pub at: Timestamp,
}

/// The session is registered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Admitted {
    /// The user's received mark, as far as it is not on disk yet.
    pub received: Option<AlarmId>,
}

/// The user has `session.max_per_user` sockets, and this one was to give way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TooManySockets;

impl Handler<Register> for AlarmHub {
    type Result = ActorResponse<Self, Result<Admitted, TooManySockets>>;

    fn handle(&mut self, register: Register, ctx: &mut Self::Context) -> Self::Result {
        let Register { user, seat, hears_alarms, if_full, at } = register;
        let most = self.max_per_user;
        if if_full == IfFull::NewestGoes && self.registry.registered(user).count() >= most {
            return ActorResponse::reply(Err(TooManySockets));
        }
        self.registry.enter(user, Registered { seat, hears_alarms, at, is_counted: false });
        // If there are too many here alone, the oldest of all is here.
        while let Some(oldest) = self.registry.one_too_many(user, most) {
            self.evict(user, oldest, ctx);
        }
        let admitted = Admitted { received: self.registry.received_mark(user) };
        if !self.bus.is_on() {
            return ActorResponse::reply(Ok(admitted));
        }
        // From the answer on, everything that any node commits is heard here, or noticed to be missing.
        let held = hears_alarms.then(|| self.bus.hold(Channel::User(user)));
        let seating = self.bus.seat(user, (seat.connection, at), (most, if_full));
        let both = async move {
            let held = async {
                if let Some(held) = held {
                    held.await;
                }
            };
            futures_util::join!(held, seating).1
        };
        ActorResponse::r#async(both.into_actor(self).map(move |seating, hub, ctx| {
            hub.seated(user, seat.connection, &seating, ctx);
            if seating == Seating::Full {
                hub.leave(user, seat.connection, ctx);
                return Err(TooManySockets);
            }
            Ok(admitted)
        }))
    }
}

/// A session is gone.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Leave {
    pub user: UserId,
    pub connection: u64,
}

impl Handler<Leave> for AlarmHub {
    type Result = ();

    fn handle(&mut self, Leave { user, connection }: Leave, ctx: &mut Self::Context) {
        self.leave(user, connection, ctx);
    }
}

/// Sessions proved receipt.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Received(pub Vec<(UserId, AlarmId)>);

impl Handler<Received> for AlarmHub {
    type Result = ();

    fn handle(&mut self, Received(marks): Received, ctx: &mut Self::Context) {
        for (user, up_to) in marks {
            self.registry.received(user, up_to);
        }
        self.plan_marks(ctx);
    }
}

/// The alarms of one commit, with their receivers.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Deliver(pub Vec<(Alarm, Vec<Receiver>)>);

impl Handler<Deliver> for AlarmHub {
    type Result = ();

    fn handle(&mut self, Deliver(alarms): Deliver, _: &mut Self::Context) {
        if self.missed.swap(false, Ordering::AcqRel) {
            self.resyncs += 1;
            for shard in &self.shards {
                shard.resync();
            }
        }
        let mut pushes: Vec<Vec<Delivery>> = self.shards.iter().map(|_| Vec::new()).collect();
        for (alarm, receivers) in &alarms {
            let hearing = |to: &Receiver| {
                let after = to.after;
                self.registry.hearing(to.user).map(move |seat| (seat, after))
            };
            let seats = self.by_shard(receivers.iter().flat_map(hearing));
            if seats.iter().all(Vec::is_empty) {
                continue;
            }
            let frame = encode_alarm(alarm, false, (self.locale)());
            for (push, seats) in pushes.iter_mut().zip(seats) {
                if !seats.is_empty() {
                    push.push(Delivery { alarm: Some(alarm.id), frame: frame.clone(), seats });
                }
            }
        }
        self.push(pushes);
    }
}

/// Something of a user's was read: all his sessions are told what is left.
#[derive(Message)]
#[rtype(result = "()")]
pub struct TellUnread {
    /// Whose.
    pub user: UserId,
    /// Unread alarms.
    pub unread: i64,
    /// Newest alarm in the inbox, 0 if none.
    pub last_id: i64,
}

impl Handler<TellUnread> for AlarmHub {
    type Result = ();

    fn handle(&mut self, TellUnread { user, unread, last_id }: TellUnread, _: &mut Self::Context) {
        self.tell(user, &encode(&ServerFrame::Unread { unread, last_id }));
        self.bus.tell(Channel::User(user), BusMessage::Unread { user, unread, last_id });
    }
}

/// Something that a user sent is refused: all his alarm sessions are told.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct AlertUser {
    pub user: UserId,
    /// Ready for the wire.
    pub frame: Bytes,
}

impl Handler<AlertUser> for AlarmHub {
    type Result = ();

    fn handle(&mut self, AlertUser { user, frame }: AlertUser, _: &mut Self::Context) {
        self.tell(user, &frame);
        if self.bus.is_on() {
            let json = String::from_utf8_lossy(&payload(&frame)).into_owned();
            self.bus.tell(Channel::User(user), BusMessage::Alert(user, json));
        }
    }
}

/// A user is no longer active: his sessions end.
#[derive(Message)]
#[rtype(result = "()")]
pub struct RefuseUser(pub UserId);

impl Handler<RefuseUser> for AlarmHub {
    type Result = ();

    fn handle(&mut self, RefuseUser(user): RefuseUser, _: &mut Self::Context) {
        self.refuse(user);
    }
}

/// The service restarts: all sessions are told when to come back.
#[derive(Message)]
#[rtype(result = "()")]
pub struct CloseAll {
    /// The shortest wait, in ms …
    pub from_ms: u64,
    /// … and how much longer the longest is; each session gets one of its own.
    pub spread_ms: u64,
}

impl Handler<CloseAll> for AlarmHub {
    type Result = ();

    fn handle(&mut self, CloseAll { from_ms, spread_ms }: CloseAll, _: &mut Self::Context) {
        for shard in &self.shards {
            shard.close(CloseSeats::Restarting { from_ms, spread_ms });
        }
    }
}

/// Writes what sessions have proved without waiting for its turn. True when all of it is on disk; the next is written when
/// this is asked again.
#[derive(Message)]
#[rtype(result = "bool")]
pub struct WriteMarks;

impl Handler<WriteMarks> for AlarmHub {
    type Result = bool;

    fn handle(&mut self, _: WriteMarks, ctx: &mut Self::Context) -> bool {
        self.write_marks(ctx);
        !self.registry.has_marks()
    }
}

/// Asks for [`HubFigures`].
#[derive(Message)]
#[rtype(result = "HubFigures")]
pub struct GetHubFigures;

/// Figures for the health endpoint.
#[derive(Debug, Clone, Copy, MessageResponse)]
pub struct HubFigures {
    /// Registered sessions.
    pub sessions: usize,
    /// Users who have at least one.
    pub users: usize,
    /// Frames that wait for clients now.
    pub undelivered: usize,
    /// Alarm frames handed to sessions since the start.
    pub delivered: u64,
    /// Sessions closed because too much waited for them.
    pub outbox_overflows: u64,
    /// Sessions closed because their client took nothing for too long.
    pub slow_clients: u64,
    /// Unread counts and alerts lost because a mailbox was full.
    pub untold: u64,
    /// Times that sessions had to read the store because a mailbox was full.
    pub resyncs: u64,
    /// Sessions that had not been told of an alarm of another node, and read it from the store.
    pub behind: u64,
    /// Sessions that ended because their user opened more than `session.max_per_user`.
    pub evicted: u64,
}

impl Handler<GetHubFigures> for AlarmHub {
    type Result = HubFigures;

    fn handle(&mut self, _: GetHubFigures, _: &mut Self::Context) -> HubFigures {
        let (sessions, users) = self.registry.counts();
        HubFigures {
            sessions,
            users,
            undelivered: self.shards.iter().map(ShardLink::waiting).sum(),
            delivered: self.stats.queued.load(Ordering::Relaxed),
            slow_clients: self.stats.slow.load(Ordering::Relaxed),
            outbox_overflows: self.stats.overflows.load(Ordering::Relaxed),
            untold: self.stats.untold.load(Ordering::Relaxed),
            behind: self.stats.behind.load(Ordering::Relaxed),
            evicted: self.evicted,
            resyncs: self.resyncs + self.stats.resyncs.load(Ordering::Relaxed),
        }
    }
}
