//! Who in the house is told of what: of what this node has committed (the other nodes too), and of what those tell.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use actix::{Addr, dev::SendError};
use tokio::runtime::Handle;

use crate::{
    actors::{
        AlarmHub, AuctionClock, BidRouter, CountSeats, Deliver, ForgetGoods, HearForUser, HearPresence, OverflowFlag,
        RefuseUser, Rooms, SayWhoIsHere, TellRooms, WatchGoods,
    },
    bus::{Bus, BusMessage, Channel, Heard},
    domain::{Alarm, GoodsId, Price, Receiver, User, UserId},
    http::UserDirectory,
    outage::Budget,
    store::{Committed, RoomEvent, Store, writes::StoredBid},
};

/// Ways to the parts of the house; cheap to clone.
#[derive(Clone)]
pub(crate) struct CommitDispatcher {
    pub hub: Addr<AlarmHub>,
    pub missed: Arc<AtomicBool>,
    pub rooms: Addr<Rooms>,
    pub missed_rooms: Arc<OverflowFlag<GoodsId>>,
    pub clock: Arc<OnceLock<Addr<AuctionClock>>>,
    pub desk: Arc<OnceLock<Addr<BidRouter>>>,
    pub users: Arc<UserDirectory>,
    /// Where a user is read whom another node has changed, and on which runtime.
    pub store: Store,
    pub runtime: Handle,
}

impl CommitDispatcher {
    /// This node has committed something. Called on the ledger's thread, in commit order.
    pub(crate) fn committed(&self, all: Vec<Committed>, bus: &Bus) {
        let (mut alarms, mut news) = (Vec::new(), Vec::new());
        for committed in all {
            match committed {
                Committed::Alarm { alarm, receivers } => {
                    if bus.is_on() {
                        bus.tell_alarm(alarm.clone(), receivers.clone());
                    }
                    alarms.push((alarm, receivers));
                }
                Committed::Room(one) => {
                    say(&one);
                    if bus.is_on() {
                        tell_others(bus, one.clone());
                    }
                    news.push(one);
                }
                Committed::GoodsMade(goods) => {
                    if let Some(clock) = self.clock.get() {
                        clock.do_send(WatchGoods(goods));
                    }
                }
                Committed::UserChanged(user) => {
                    bus.tell_all(BusMessage::User(user.clone()));
                    let id = user.id;
                    self.user_changed(user);
                    if bus.is_on() {
                        // Another node may have changed them since, and its message may have come before this.
                        self.read_again(id);
                    }
                }
            }
        }
        self.deliver(alarms);
        self.tell_rooms(news);
    }

    /// Another node has said something, or can't be heard. Called on the bus's thread.
    pub(crate) fn heard(&self, heard: Heard) {
        match heard {
            Heard::Alarms(alarms) => self.deliver(alarms),
            Heard::Told(_, BusMessage::Alarm(alarm, receiver)) => self.deliver(vec![(alarm, vec![receiver])]),
            Heard::Told(_, BusMessage::News(news)) => self.tell_rooms(vec![news]),
            Heard::Told(_, BusMessage::User(user)) => self.changed_elsewhere(&user),
            // What of these finds a full mailbox is dropped: a count that comes too late is none.
            Heard::Told(_, BusMessage::Unread { user, unread, last_id }) => {
                let _ = self.hub.try_send(HearForUser::Unread(user, unread, last_id));
            }
            Heard::Told(_, BusMessage::Alert(user, json)) => {
                let _ = self.hub.try_send(HearForUser::Alert(user, json));
            }
            // Few, and nobody says them again: past the bound.
            Heard::Told(_, BusMessage::TooMany { node, user, connection }) => {
                self.hub.do_send(HearForUser::TooMany(node, user, connection));
            }
            Heard::Told(node, BusMessage::Present(changes)) => self.rooms.do_send(HearPresence::Changes(node, changes)),
            Heard::Told(node, BusMessage::AllPresent { part, at, of }) => {
                self.rooms.do_send(HearPresence::All { node, part, at, of });
            }
            Heard::Told(_, BusMessage::Beat { asks: true }) => self.rooms.do_send(SayWhoIsHere),
            Heard::Told(_, BusMessage::Beat { asks: false } | BusMessage::Leaving) => {}
            Heard::Gone(node) => self.rooms.do_send(HearPresence::Gone(node)),
            Heard::MustTell => self.rooms.do_send(SayWhoIsHere),
            Heard::MustCount => self.hub.do_send(CountSeats),
        }
    }

    fn user_changed(&self, user: User) {
        // Known first: a socket that registers after its user's others were closed must not find him active.
        let (id, is_active) = (user.id, user.is_active);
        self.users.changed(user);
        if !is_active {
            self.hub.do_send(RefuseUser(id));
        }
    }

    /// What is told of another node's commit may come behind what a third one has committed since, or this one: how the
    /// user is now, only the store knows. He is read at once, for his sockets in rooms, and for one that is just opening.
    fn changed_elsewhere(&self, user: &User) {
        let id = user.id;
        self.users.changed_elsewhere(id);
        if !user.is_active {
            self.hub.do_send(RefuseUser(id));
        }
        self.read_again(id);
    }

    fn read_again(&self, id: UserId) {
        let (users, store, hub) = (Arc::clone(&self.users), self.store.clone(), self.hub.clone());
        self.runtime.spawn(async move {
            match users.learn(&store, id).await {
                Ok(Some(user)) if !user.is_active => hub.do_send(RefuseUser(id)),
                Ok(_) => {}
                // Whoever asks for him reads him himself.
                Err(error) => log::debug!("a user can't be read: {error}"),
            }
        });
    }

    fn deliver(&self, alarms: Vec<(Alarm, Vec<Receiver>)>) {
        if !alarms.is_empty()
            && self.hub.try_send(Deliver(alarms)).is_err()
            && !self.missed.swap(true, Ordering::AcqRel)
        {
            // Each commit that waits looks at this; one more, empty, comes behind it in case those were quicker.
            self.hub.do_send(Deliver(Vec::new()));
        }
    }

    fn tell_rooms(&self, news: Vec<RoomEvent>) {
        for one in &news {
            if let (RoomEvent::Deleted(goods), Some(desk)) = (one, self.desk.get()) {
                desk.do_send(ForgetGoods(*goods));
            }
        }
        if !news.is_empty()
            && let Err(SendError::Full(TellRooms(news)) | SendError::Closed(TellRooms(news))) =
                self.rooms.try_send(TellRooms(news))
            && self.missed_rooms.note(news.iter().map(RoomEvent::goods))
        {
            self.rooms.do_send(TellRooms(Vec::new()));
        }
    }
}

/// Accepted bids in the log: so many in a second. With a line for each, fifty thousand a second would cost the ledger's
/// thread a quarter of its time.
static BIDS: Budget = Budget::new(100, Duration::from_secs(1));

/// What has happened, for the log of the node that has committed it. What somebody said stays in the database.
fn say(news: &RoomEvent) {
    match news {
        RoomEvent::Started(goods) => log::info!("the auction of goods {goods} has started"),
        RoomEvent::Bid { bid, bidder } => {
            if let Some(left_out) = BIDS.spend(Instant::now()) {
                let StoredBid { id, seq, bid, .. } = bid;
                let (user, goods, price) = (bidder.id, bid.goods, bid.price.won());
                log::info!("bid {id} of user {user} on goods {goods}: {price}, number {seq}{left_out}");
            }
        }
        RoomEvent::Extended { goods, ends_at, .. } => {
            log::debug!("the end of goods {goods} has moved to {}", ends_at.rfc3339());
        }
        RoomEvent::Ended { goods, seq, buyer: Some(buyer), high_price } => {
            let price = high_price.map_or(0, Price::won);
            log::info!("the auction of goods {goods} has ended: user {} buys for {price}, after {seq} bids", buyer.id);
        }
        RoomEvent::Ended { goods, buyer: None, .. } => {
            log::info!("the auction of goods {goods} has ended without a buyer");
        }
        RoomEvent::Deleted(goods) => log::debug!("goods {goods} are deleted"),
        RoomEvent::Line { goods, id, author, .. } => {
            log::debug!("line {id} of user {} in the room of goods {goods}", author.id);
        }
        RoomEvent::TradeMessage { goods, id, author, .. } => {
            log::debug!("message {id} of user {} about goods {goods}", author.id);
        }
    }
}

/// News of a room go to the nodes that have sockets in it; what every node may remember, to all.
fn tell_others(bus: &Bus, news: RoomEvent) {
    match news {
        RoomEvent::Deleted(_) => bus.tell_all(BusMessage::News(news)),
        RoomEvent::TradeMessage { goods, .. } => bus.tell(Channel::Trade(goods), BusMessage::News(news)),
        _ => bus.tell(Channel::Auction(news.goods()), BusMessage::News(news)),
    }
}
