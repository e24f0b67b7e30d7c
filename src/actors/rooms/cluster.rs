//! What the rooms do because there are other nodes: they tell them who comes and goes here, hear who is there, begin the
//! course of each room with what the store knows, and look every few seconds whether a room has missed something.

use std::{collections::HashSet, sync::Arc, time::Duration};

use actix::prelude::*;
use tokio::sync::oneshot;

use super::{cluster_sync::channel, presence::RoomState, rooms::Rooms, sequencer::EventSequencer};
use crate::actors::delivery::shard::RoomOrder;
use crate::actors::room_id::RoomId;
use crate::{
    bus::{Bus, BusMessage, NodeId, Presence},
    domain::{GoodsId, Phase, User, UserId},
    store::{MOST_NEWS, RoomEvent, RoomMark, Store, StoreError},
};

/// How often rooms look whether they have missed something.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// … if something could not be looked up.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// How long a bid may wait for the one before it until that is read from the store.
const BID_PATIENCE: Duration = Duration::from_millis(250);
/// Rooms of one reading, and users of one message.
const MARKS: usize = 500;
const USERS: usize = 500;
/// Rooms that read what they have missed at once.
const READINGS: usize = 4;
/// News that may wait for the beginning of a course; what comes beyond is read from the store.
const MAX_EARLY: usize = 1000;

/// There are other nodes.
#[derive(Message)]
#[rtype(result = "()")]
pub struct JoinRooms {
    /// The way to them.
    pub bus: Bus,
    /// Where rooms read what they have missed.
    pub store: Store,
}

impl Handler<JoinRooms> for Rooms {
    type Result = ();

    fn handle(&mut self, JoinRooms { bus, store }: JoinRooms, ctx: &mut Self::Context) {
        self.several.link = Some((bus, store));
        ctx.run_interval(LOOK_EVERY, Self::look);
    }
}

// The course of each room.

impl Rooms {
    /// A socket has come in: answered when the room hears everything.
    pub(crate) fn begin_course(&mut self, id: RoomId, ctx: &mut Context<Self>) -> ActorResponse<Self, bool> {
        let (Some(hall), Some((bus, store))) = (self.halls.get_mut(&id), self.several.link.clone()) else {
            return ActorResponse::reply(false);
        };
        let hearing = &mut hall.hearing;
        if hearing.course.is_some() {
            return ActorResponse::reply(true);
        }
        let (tell, told) = oneshot::channel();
        hearing.waiting.push(tell);
        if !hearing.is_beginning {
            hearing.is_beginning = true;
            self.several.generations += 1;
            hearing.generation = self.several.generations;
            let generation = hearing.generation;
            let held = (!std::mem::replace(&mut hearing.is_held, true)).then(|| bus.hold(channel(id)));
            // First listen, then read: what is committed from here on is heard or in what is read.
            let read = async move {
                if let Some(held) = held {
                    held.await;
                }
                store.room_marks(vec![id.goods()]).await
            };
            ctx.spawn(read.into_actor(self).map(move |marks, rooms, ctx| rooms.begun(id, generation, marks, ctx)));
        }
        ActorResponse::r#async(async move { told.await.unwrap_or(false) }.into_actor(self))
    }

    fn begun(
        &mut self,
        id: RoomId,
        generation: u64,
        marks: Result<Vec<RoomMark>, StoreError>,
        ctx: &mut Context<Self>,
    ) {
        let Some(hall) = self.halls.get_mut(&id).filter(|hall| hall.hearing.generation == generation) else { return };
        let hearing = &mut hall.hearing;
        hearing.is_beginning = false;
        let waiting = std::mem::take(&mut hearing.waiting);
        let early = std::mem::take(&mut hearing.early);
        let can_hear = match marks {
            Ok(marks) => {
                // No mark: deleted meanwhile, which whoever opens the socket looks up himself.
                hearing.course = marks.into_iter().next().map(|mark| EventSequencer::begin(id, mark, &early));
                true
            }
            Err(error) => {
                log::debug!("a room can't be opened: {error}");
                false
            }
        };
        let mut orders = Vec::new();
        for news in early {
            self.tell_in_course(news, &mut orders, ctx);
        }
        self.push(orders);
        for tell in waiting {
            let _ = tell.send(can_hear);
        }
    }

    /// Something has happened on whichever node: the room hears it once, and bids in their order.
    pub(crate) fn tell_in_course(
        &mut self,
        news: RoomEvent,
        orders: &mut Vec<(RoomId, RoomOrder)>,
        ctx: &mut Context<Self>,
    ) {
        let id = RoomId::of(&news);
        let Some(hall) = self.halls.get_mut(&id) else { return };
        if let RoomEvent::Ended { .. } = news {
            hall.is_over = true;
        }
        if hall.room.sockets() == 0 {
            return;
        }
        let is_up = self.several.link.as_ref().is_some_and(|(bus, _)| bus.is_up());
        let told = match (&mut hall.hearing.course, news) {
            (_, news @ RoomEvent::Deleted(_)) => vec![news],
            (Some(course), news) => {
                let told = course.take(news);
                if course.is_waiting() && !hall.hearing.is_catching_up {
                    if is_up {
                        ctx.run_later(BID_PATIENCE, move |rooms, ctx| rooms.catch_up_if_waiting(id, ctx));
                    } else {
                        self.catch_up(id, ctx);
                    }
                }
                told
            }
            (None, news) => {
                if hall.hearing.early.len() < MAX_EARLY {
                    hall.hearing.early.push(news);
                }
                return;
            }
        };
        for news in &told {
            self.tell_news(news, orders);
        }
    }

    fn catch_up_if_waiting(&mut self, id: RoomId, ctx: &mut Context<Self>) {
        let is_waiting = |hall: &RoomState| hall.hearing.course.as_ref().is_some_and(EventSequencer::is_waiting);
        if self.halls.get(&id).is_some_and(is_waiting) {
            self.catch_up(id, ctx);
        }
    }

    /// The room reads what it has missed, as soon as it is its turn.
    pub(crate) fn catch_up(&mut self, id: RoomId, ctx: &mut Context<Self>) {
        if let Some(hall) = self.halls.get_mut(&id)
            && let Some(course) = &hall.hearing.course
            && !std::mem::replace(&mut hall.hearing.is_catching_up, true)
        {
            if course.is_waiting() {
                self.several.to_read.push_front(id);
            } else {
                self.several.to_read.push_back(id);
            }
            self.read_on(ctx);
        }
    }

    fn read_on(&mut self, ctx: &mut Context<Self>) {
        while self.several.readings < READINGS {
            let (Some(id), Some((_, store))) = (self.several.to_read.pop_front(), &self.several.link) else { return };
            let Some(hall) = self.halls.get(&id) else { continue };
            let Some(course) = &hall.hearing.course else { continue };
            let (store, mark, generation) = (store.clone(), course.mark(), hall.hearing.generation);
            self.several.readings += 1;
            let read = async move { store.news_since(mark).await };
            ctx.spawn(read.into_actor(self).map(move |news, rooms, ctx| {
                rooms.several.readings -= 1;
                rooms.read(id, generation, news, ctx);
                rooms.read_on(ctx);
            }));
        }
    }

    fn read(&mut self, id: RoomId, generation: u64, news: Result<Vec<RoomEvent>, StoreError>, ctx: &mut Context<Self>) {
        let Some(hall) = self.halls.get_mut(&id).filter(|hall| hall.hearing.generation == generation) else { return };
        hall.hearing.is_catching_up = false;
        match (news, &mut hall.hearing.course) {
            (Ok(news), Some(course)) => {
                let is_more = news.len() >= MOST_NEWS;
                let told = course.catch_up(news);
                let mut orders = Vec::new();
                for news in &told {
                    self.tell_news(news, &mut orders);
                }
                self.push(orders);
                if is_more {
                    self.catch_up(id, ctx);
                }
            }
            // Tried again at the next look.
            (Err(error), _) => log::debug!("a room can't read what it has missed: {error}"),
            (Ok(_), None) => {}
        }
    }

    /// Has every room that is behind read what it has missed.
    fn look(&mut self, ctx: &mut Context<Self>) {
        if !std::mem::replace(&mut self.several.looking, true) {
            let goods: HashSet<GoodsId> = self.halls.keys().map(|id| id.goods()).collect();
            self.look_on(goods.into_iter().collect(), false, ctx);
        }
    }

    /// Looks at some of these, then at the rest; if any could not be looked at, soon again.
    fn look_on(&mut self, mut goods: Vec<GoodsId>, failed: bool, ctx: &mut Context<Self>) {
        let some = goods.split_off(goods.len().saturating_sub(MARKS));
        let Some((_, store)) = self.several.link.clone().filter(|_| !some.is_empty()) else {
            self.several.looking = false;
            if failed {
                ctx.run_later(LOOK_AGAIN, Self::look);
            }
            return;
        };
        let asked = some.clone();
        let marks = async move { store.room_marks(asked).await };
        ctx.spawn(marks.into_actor(self).map(move |marks, rooms, ctx| {
            let has_failed = marks.is_err();
            match marks {
                Ok(marks) => {
                    marks.iter().for_each(|mark| rooms.compare(mark, ctx));
                    let there: HashSet<GoodsId> = marks.iter().map(|mark| mark.goods).collect();
                    let mut orders = Vec::new();
                    for deleted in some.into_iter().filter(|goods| !there.contains(goods)) {
                        rooms.tell_in_course(RoomEvent::Deleted(deleted), &mut orders, ctx);
                    }
                    rooms.push(orders);
                }
                Err(error) => log::debug!("where rooms stand can't be looked up: {error}"),
            }
            rooms.look_on(goods, failed || has_failed, ctx);
        }));
    }

    fn compare(&mut self, now: &RoomMark, ctx: &mut Context<Self>) {
        for id in [RoomId::Auction(now.goods), RoomId::Trade(now.goods)] {
            let Some(hall) = self.halls.get_mut(&id) else { continue };
            hall.is_over |= now.phase == Phase::Ended;
            let course = hall.hearing.course.as_ref();
            if course.is_some_and(|course| course.is_waiting() || course.is_behind(now)) {
                self.catch_up(id, ctx);
            }
        }
    }
}

// Who is present.

impl Rooms {
    /// Other nodes hear that a user has come with his first socket here, or gone with his last: at once, so that they hear
    /// it before whatever he does.
    pub(crate) fn tell_others(&self, goods: GoodsId, user: &Arc<User>, is_here: bool) {
        if let Some((bus, _)) = &self.several.link {
            bus.tell_all(BusMessage::Present(vec![Presence { goods, user: User::clone(user), is_here }]));
        }
    }

    fn appear(&mut self, node: NodeId, goods: GoodsId, user: User) {
        let (id, user) = (RoomId::Auction(goods), Arc::new(user));
        let hall = self.halls.entry(id).or_insert_with(|| RoomState::new(false));
        if hall.room.appear(node, Arc::clone(&user)) {
            hall.moved(user.id);
            self.several.touched.insert(id);
        }
    }

    fn vanish(&mut self, node: NodeId, goods: GoodsId, user: UserId) {
        let id = RoomId::Auction(goods);
        if let Some(hall) = self.halls.get_mut(&id)
            && hall.room.vanish(node, user)
        {
            hall.moved(user);
            self.several.touched.insert(id);
        }
    }

    /// Tells all rooms that have been touched: one message for each worker, however many they are.
    fn tell_touched(&mut self, ctx: &mut Context<Self>) {
        let mut orders = Vec::new();
        for id in std::mem::take(&mut self.several.touched) {
            self.tell_untold(id, &mut orders, ctx);
            self.close_empty(id);
        }
        self.push(orders);
    }

    /// Everybody on that node who is not among these has gone.
    fn vanish_all_but(&mut self, node: NodeId, stay: &HashSet<(GoodsId, UserId)>) {
        let mut gone = Vec::new();
        for (id, hall) in &self.halls {
            let goods = id.goods();
            gone.extend(
                hall.room.on_node(node).into_iter().map(|user| (goods, user)).filter(|one| !stay.contains(one)),
            );
        }
        for (goods, user) in gone {
            self.vanish(node, goods, user);
        }
    }
}

/// Another node has told who is in rooms there.
#[derive(Message)]
#[rtype(result = "()")]
pub enum HearPresence {
    /// Comings and goings.
    Changes(NodeId, Vec<Presence>),
    /// A part of all of them.
    All {
        /// On which node.
        node: NodeId,
        /// In whose room, and who.
        part: Vec<(GoodsId, User)>,
        /// Which part, counted from 0.
        at: u32,
        /// How many there are.
        of: u32,
    },
    /// The node is no more.
    Gone(NodeId),
}

impl Handler<HearPresence> for Rooms {
    type Result = ();

    fn handle(&mut self, heard: HearPresence, ctx: &mut Self::Context) {
        match heard {
            HearPresence::Changes(node, changes) => {
                for Presence { goods, user, is_here } in changes {
                    if is_here {
                        self.appear(node, goods, user);
                    } else {
                        self.vanish(node, goods, user.id);
                    }
                }
            }
            HearPresence::All { node, part, at, of } => {
                let (mut parts, mut there) = self.several.telling.remove(&node).filter(|_| at > 0).unwrap_or_default();
                parts += 1;
                there.extend(part.iter().map(|(goods, user)| (*goods, user.id)));
                for (goods, user) in part {
                    self.appear(node, goods, user);
                }
                if at + 1 < of {
                    self.several.telling.insert(node, (parts, there));
                } else if parts == of {
                    self.vanish_all_but(node, &there);
                }
            }
            HearPresence::Gone(node) => {
                self.several.telling.remove(&node);
                self.vanish_all_but(node, &HashSet::new());
            }
        }
        self.tell_touched(ctx);
    }
}

/// Another node asks who is in rooms here, or may have missed it.
#[derive(Message)]
#[rtype(result = "()")]
pub struct SayWhoIsHere;

impl Handler<SayWhoIsHere> for Rooms {
    type Result = ();

    fn handle(&mut self, _: SayWhoIsHere, _: &mut Self::Context) {
        let Some((bus, _)) = &self.several.link else { return };
        let here = |(id, hall): (&RoomId, &RoomState)| match id {
            RoomId::Auction(goods) => hall.room.here().map(|user| (*goods, User::clone(user))).collect(),
            RoomId::Trade(_) => Vec::new(),
        };
        let all: Vec<(GoodsId, User)> = self.halls.iter().flat_map(here).collect();
        let mut parts: Vec<Vec<(GoodsId, User)>> = all.chunks(USERS).map(<[_]>::to_vec).collect();
        if parts.is_empty() {
            parts.push(Vec::new());
        }
        let of = u32::try_from(parts.len()).unwrap_or(u32::MAX);
        for (at, part) in (0..).zip(parts) {
            bus.tell_all(BusMessage::AllPresent { part, at, of });
        }
    }
}
