//! Who is notified of what. What this node commits goes to its hub, rooms, clock and bid router, and over the bus to
//! the other nodes. What other nodes commit comes over the bus and goes to the same parts of this node, except to the
//! bus.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use actix::Addr;
use tokio::runtime::Handle;

use super::commit_counts::CommitCounts;
use crate::{
    actors::{
        AlarmHub, AuctionClock, BidRouter, BroadcastRoomEvents, CloseUserSessions, CommittedGoods, Deliver,
        ForgetGoods, FromBus, OverflowFlag, Rooms, SetLocale, WatchGoods, send_or_note,
    },
    bus::{Bus, BusEvent, BusListener, BusMessage, Channel, Topology},
    domain::{Alarm, GoodsId, Price, Receiver, User, UserId},
    http::UserDirectory,
    outage::LogBudget,
    store::{CommitListener, Committed, RoomEvent, Store, writes::StoredBid},
};

/// Addresses of the node's parts; cheap to clone.
#[derive(Clone)]
pub(crate) struct CommitDispatcher {
    pub hub: Addr<AlarmHub>,
    /// Set when the hub's mailbox is full; its sessions then read the store.
    pub hub_overflow: Arc<OverflowFlag<()>>,
    pub rooms: Addr<Rooms>,
    /// Holds the rooms whose events found the rooms' mailbox full; their sockets close.
    pub room_overflow: Arc<OverflowFlag<GoodsId>>,
    pub clock: Addr<AuctionClock>,
    pub router: Addr<BidRouter>,
    /// What bids are refused by at once.
    pub committed: Arc<CommittedGoods>,
    pub users: Arc<UserDirectory>,
    pub topology: Topology,
    pub counts: CommitCounts,
    /// Reads a user whom another node has changed …
    pub store: Store,
    /// … on this runtime.
    pub runtime: Handle,
}

impl CommitListener for CommitDispatcher {
    /// Dispatches what this node has committed.
    fn on_commit(&self, all: Vec<Committed>) {
        let committed_at = Instant::now();
        let bus = self.topology.bus();
        let (mut alarms, mut events) = (Vec::new(), Vec::new());
        for committed in all {
            match committed {
                Committed::Alarm { alarm, receivers } => {
                    self.counts.alarm(alarm.kind, receivers.len());
                    if let Some(bus) = bus {
                        bus.send_alarm(alarm.clone(), receivers.clone());
                    }
                    alarms.push((alarm, receivers));
                }
                Committed::Room(event) => {
                    self.counts.event(&event);
                    log_event(&event);
                    if let Some(bus) = bus {
                        send_event(bus, event.clone());
                    }
                    events.push(event);
                }
                Committed::GoodsMade(goods) => self.clock.do_send(WatchGoods(goods)),
                Committed::UserChanged(user) => {
                    let id = user.id;
                    if let Some(bus) = bus {
                        bus.broadcast(BusMessage::UserChanged(user.clone()));
                    }
                    self.user_changed(user);
                    if bus.is_some() {
                        // Another node may have changed the user since, and its message may have come before this
                        // commit.
                        self.reload_user(id);
                    }
                }
                Committed::LocaleChanged(user) => {
                    let (id, locale) = (user.id, user.locale);
                    // The directory first: a session that registers after the hub knows the new language must not find the old one.
                    self.users.update(user);
                    self.hub.do_send(SetLocale { user: id, locale });
                    if let Some(bus) = bus {
                        bus.broadcast(BusMessage::LocaleChanged(id, locale));
                        self.reload_user(id);
                    }
                }
            }
        }
        self.deliver(alarms, committed_at);
        self.broadcast(events);
    }
}

impl BusListener for CommitDispatcher {
    /// Dispatches what comes over the bus.
    fn on_bus_event(&self, event: BusEvent) {
        match event {
            BusEvent::Alarms(alarms) => self.deliver(alarms, Instant::now()),
            BusEvent::Message(_, BusMessage::Alarm(alarm, receiver)) => {
                self.deliver(vec![(alarm, vec![receiver])], Instant::now());
            }
            BusEvent::Message(_, BusMessage::RoomEvent(event)) => self.broadcast(vec![event]),
            BusEvent::Message(_, BusMessage::UserChanged(user)) => self.user_changed_elsewhere(&user),
            // At once for the alarms that follow on this channel; the store then says which of several changes is the
            // latest.
            BusEvent::Message(_, BusMessage::LocaleChanged(user, locale)) => {
                self.users.invalidate(user);
                self.hub.do_send(SetLocale { user, locale });
                self.reload_user(user);
            }
            // Dropped if the mailbox is full: a late count or alert is of no use.
            BusEvent::Message(_, BusMessage::Unread { .. } | BusMessage::Alert(..)) => {
                let _ = self.hub.try_send(FromBus(event));
            }
            // Dropped if the mailbox is full: it comes again within 5 s.
            BusEvent::Message(_, BusMessage::Visitors(_)) => {
                let _ = self.rooms.try_send(FromBus(event));
            }
            // The rest is rare and never repeated, so it may exceed the mailboxes' bounds.
            BusEvent::Message(_, BusMessage::EvictSocket { .. }) | BusEvent::RecountSockets => {
                self.hub.do_send(FromBus(event));
            }
            BusEvent::Message(_, BusMessage::Heartbeat { wants_presence: false } | BusMessage::Leaving) => {}
            BusEvent::Message(
                _,
                BusMessage::PresenceChanges(_) | BusMessage::PresenceSnapshot { .. } | BusMessage::Heartbeat { .. },
            )
            | BusEvent::NodeGone(_)
            | BusEvent::AnnouncePresence => self.rooms.do_send(FromBus(event)),
        }
    }
}

impl CommitDispatcher {
    fn user_changed(&self, user: User) {
        // The directory first: a socket that registers after the others were closed must not find its user active.
        let (id, is_active) = (user.id, user.is_active);
        self.users.update(user);
        if !is_active {
            self.hub.do_send(CloseUserSessions(id));
        }
    }

    /// The message may be older than what a third node, or this one, has committed since, so the user is read from the
    /// store. This happens at once, for their sockets in rooms and for one that is just opening.
    fn user_changed_elsewhere(&self, user: &User) {
        let id = user.id;
        self.users.invalidate(id);
        if !user.is_active {
            self.hub.do_send(CloseUserSessions(id));
        }
        self.reload_user(id);
    }

    fn reload_user(&self, id: UserId) {
        let (users, store, hub) = (Arc::clone(&self.users), self.store.clone(), self.hub.clone());
        self.runtime.spawn(async move {
            match users.load(&store, id).await {
                Ok(Some(user)) if !user.is_active => hub.do_send(CloseUserSessions(id)),
                Ok(Some(user)) => {
                    // Dropped if the mailbox is full: the next inbox check sets it.
                    let _ = hub.try_send(SetLocale { user: id, locale: user.locale });
                }
                Ok(None) => {}
                // The next request of this user reads them.
                Err(error) => log::debug!(user = id.get(), error:%; "a user can't be read"),
            }
        });
    }

    fn deliver(&self, alarms: Vec<(Alarm, Vec<Receiver>)>, committed_at: Instant) {
        if !alarms.is_empty() {
            let deliver = Deliver { alarms, committed_at: Some(committed_at) };
            send_or_note(&self.hub, deliver, &self.hub_overflow, |_| [()]);
        }
    }

    fn broadcast(&self, events: Vec<RoomEvent>) {
        for event in &events {
            match event {
                RoomEvent::Deleted(goods) => self.router.do_send(ForgetGoods(*goods)),
                // Before anybody else: whoever hears of the end and bids is refused because it has ended, not as too low.
                RoomEvent::Cancelled { goods, .. } => self.committed.cancel(*goods),
                _ => {}
            }
        }
        if !events.is_empty() {
            let goods = |BroadcastRoomEvents(events)| events.into_iter().map(|event| event.goods());
            send_or_note(&self.rooms, BroadcastRoomEvents(events), &self.room_overflow, goods);
        }
    }
}

/// Accepted bids that the log mentions. A line for each of fifty thousand bids a second would cost the ledger's thread
/// a quarter of its time.
static LOGGED_BIDS: LogBudget = LogBudget::new(100, Duration::from_secs(1));

/// Logs an event, on the node that has committed it. The text of lines and messages stays out of the log.
fn log_event(event: &RoomEvent) {
    match event {
        RoomEvent::Started(goods) => log::info!(goods = goods.get(); "an auction has started"),
        RoomEvent::Bid { bid, bidder } => {
            if let Some(left_out) = LOGGED_BIDS.spend(Instant::now()) {
                let StoredBid { id, seq, bid, .. } = bid;
                let (user, goods, price) = (bidder.id.get(), bid.goods.get(), bid.price.won());
                log::info!(bid = id.get(), user, goods, price, seq = seq.get(), left_out; "a bid is accepted");
            }
        }
        RoomEvent::Extended { goods, ends_at, .. } => {
            log::debug!(goods = goods.get(), ends_at = ends_at.rfc3339(); "the end of an auction has moved");
        }
        RoomEvent::Ended { goods, seq, buyer: Some(buyer), high_price } => {
            let price = high_price.map_or(0, Price::won);
            let (goods, buyer) = (goods.get(), buyer.id.get());
            log::info!(goods, buyer, price, bids = seq.get(); "an auction has ended with a buyer");
        }
        RoomEvent::Ended { goods, buyer: None, .. } => {
            log::info!(goods = goods.get(); "an auction has ended without a buyer");
        }
        RoomEvent::Cancelled { goods, .. } => log::info!(goods = goods.get(); "an auction is cancelled"),
        RoomEvent::Deleted(goods) => log::debug!(goods = goods.get(); "goods are deleted"),
        RoomEvent::Line { goods, id, author, .. } => {
            log::debug!(line = id.get(), user = author.id.get(), goods = goods.get(); "a line in an auction room");
        }
        RoomEvent::LineRemoved { goods, line, .. } => {
            log::debug!(line = line.get(), goods = goods.get(); "a line is removed from an auction room");
        }
        RoomEvent::TradeMessage { goods, id, author, .. } => {
            log::debug!(message_id = id.get(), user = author.id.get(), goods = goods.get(); "a message in a trade chat");
        }
    }
}

/// Sends an event to the nodes that have sockets in its room. A deletion goes to all nodes, since each may remember the
/// goods.
fn send_event(bus: &Bus, event: RoomEvent) {
    match event {
        RoomEvent::Deleted(_) => bus.broadcast(BusMessage::RoomEvent(event)),
        RoomEvent::TradeMessage { goods, .. } => bus.send(Channel::Trade(goods), BusMessage::RoomEvent(event)),
        _ => bus.send(Channel::Auction(event.goods()), BusMessage::RoomEvent(event)),
    }
}
