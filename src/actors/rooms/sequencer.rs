//! Puts the events of one room in order where several nodes send them. It does no IO.
//!
//! Events come over the bus and from the store, late, twice or not at all. The sequencer lets each through once, and
//! bids in the order of their numbers without a gap. What is missing is read from the store, from
//! [`EventSequencer::cursor`] on.

use std::collections::{BTreeMap, BTreeSet};

use crate::actors::room_id::RoomId;
use crate::{
    domain::{BidSeq, Phase},
    store::{RoomCursor, RoomEvent},
};

/// Events that may wait for an earlier bid. The rest is dropped, and read from the store later.
const HELD_EVENTS_LIMIT: usize = 1000;
/// Ids above the floor of [`SeenIds`] that are remembered one by one.
const SEEN_IDS_LIMIT: usize = 2000;

/// Which lines, or which trade messages, have been let through. Their ids rise with their commits but have gaps, so
/// only the store knows what is missing.
#[derive(Debug, Default)]
struct SeenIds {
    /// Every id up to this one has been let through.
    floor: i64,
    /// Those above it.
    above: BTreeSet<i64>,
}

impl SeenIds {
    fn from(floor: i64) -> Self {
        Self { floor, above: BTreeSet::new() }
    }

    /// Records an id; false if it has been let through before.
    fn is_new(&mut self, id: i64) -> bool {
        let is_new = id > self.floor && self.above.insert(id);
        if self.above.len() > SEEN_IDS_LIMIT
            && let Some(oldest) = self.above.pop_first()
        {
            self.floor = oldest;
        }
        is_new
    }

    /// Everything in the store up to this id has been let through.
    fn settle(&mut self, floor: i64) {
        self.floor = self.floor.max(floor);
        self.above = self.above.split_off(&(self.floor + 1));
    }
}

/// The order of one room's events.
pub(crate) struct EventSequencer {
    id: RoomId,
    /// How far the auction's events have been let through. Its `line` and `message` are not kept up to date.
    auction: RoomCursor,
    lines: SeenIds,
    messages: SeenIds,
    /// Events that wait for an earlier bid, by the number of their bid; for one bid first the bid itself (0), then the
    /// end that it moved (1), then the end of the auction (2).
    held: BTreeMap<(BidSeq, u8), RoomEvent>,
}

impl EventSequencer {
    /// Starts from what the store has. `early` are the events received before the store was read: the cursor is moved
    /// back before them, so that they are let through when they are taken.
    pub(crate) fn start(id: RoomId, cursor: RoomCursor, early: &[RoomEvent]) -> Self {
        let mut auction = cursor;
        for event in early {
            match event {
                RoomEvent::Bid { bid, .. } => auction.bid_seq = auction.bid_seq.min(bid.seq.previous()),
                RoomEvent::Line { id, .. } | RoomEvent::LineRemoved { id, .. } => {
                    auction.line = auction.line.min(id.get().saturating_sub(1));
                }
                RoomEvent::TradeMessage { id, .. } => auction.message = auction.message.min(id.get().saturating_sub(1)),
                RoomEvent::Started(_) => auction.phase = Phase::Scheduled,
                RoomEvent::Ended { .. } | RoomEvent::Cancelled { .. } if auction.phase == Phase::Ended => {
                    auction.phase = Phase::Live;
                }
                RoomEvent::Ended { .. }
                | RoomEvent::Cancelled { .. }
                | RoomEvent::Extended { .. }
                | RoomEvent::Deleted(_) => {}
            }
        }
        let (lines, messages) = (SeenIds::from(auction.line), SeenIds::from(auction.message));
        Self { id, auction, lines, messages, held: BTreeMap::new() }
    }

    /// Up to where all events have been let through. Missed events are read from the store from here on.
    pub(crate) fn cursor(&self) -> RoomCursor {
        RoomCursor { line: self.lines.floor, message: self.messages.floor, ..self.auction }
    }

    /// Takes an event and returns those that may be sent now, in order.
    pub(crate) fn take(&mut self, event: RoomEvent) -> Vec<RoomEvent> {
        let is_new = match &event {
            RoomEvent::Started(_) => self.auction.phase == Phase::Scheduled,
            RoomEvent::Deleted(_) => true,
            RoomEvent::Line { id, .. } => self.lines.is_new(id.get()),
            RoomEvent::LineRemoved { id, line, .. } => {
                // A line that comes after its removal must not be sent any more.
                self.lines.is_new(line.get());
                self.lines.is_new(id.get())
            }
            RoomEvent::TradeMessage { id, .. } => self.messages.is_new(id.get()),
            RoomEvent::Bid { bid, .. } => return self.take_in_order((bid.seq, 0), event),
            RoomEvent::Extended { seq, .. } => return self.take_in_order((*seq, 1), event),
            RoomEvent::Ended { seq, .. } | RoomEvent::Cancelled { seq, .. } => {
                return self.take_in_order((*seq, 2), event);
            }
        };
        let has_started = is_new && matches!(event, RoomEvent::Started(_));
        let mut ready: Vec<RoomEvent> = is_new.then_some(event).into_iter().collect();
        if has_started {
            self.auction.phase = Phase::Live;
            ready.extend(self.take_ready());
        }
        ready
    }

    fn take_in_order(&mut self, place: (BidSeq, u8), event: RoomEvent) -> Vec<RoomEvent> {
        self.held.insert(place, event);
        let ready = self.take_ready();
        if self.held.len() > HELD_EVENTS_LIMIT {
            // Drops the last one: the event that all others wait for must always fit.
            self.held.pop_last();
        }
        ready
    }

    /// Takes the held events that wait for nothing any more.
    fn take_ready(&mut self) -> Vec<RoomEvent> {
        let mut ready = Vec::new();
        while let Some(entry) = self.held.first_entry() {
            let (seq, _) = *entry.key();
            let (is_new, is_next) = match entry.get() {
                // A bid also waits for the start, which may come from another node after the bid.
                RoomEvent::Bid { .. } => {
                    let is_open = self.auction.phase != Phase::Scheduled;
                    (seq > self.auction.bid_seq, is_open && seq == self.auction.bid_seq.next())
                }
                RoomEvent::Extended { ends_at, .. } => (*ends_at > self.auction.ends_at, seq <= self.auction.bid_seq),
                _ => (self.auction.phase != Phase::Ended, seq <= self.auction.bid_seq),
            };
            if !is_new {
                entry.remove();
                continue;
            }
            if !is_next {
                break;
            }
            let event = entry.remove();
            match &event {
                RoomEvent::Bid { .. } => self.auction.bid_seq = seq,
                RoomEvent::Extended { ends_at, .. } => self.auction.ends_at = *ends_at,
                _ => self.auction.phase = Phase::Ended,
            }
            ready.push(event);
        }
        ready
    }

    /// Whether an event waits for an earlier bid, or for the start.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.held.is_empty()
    }

    /// Whether the store has, or may have, an event that has not been let through. `now` is where the store stands.
    pub(crate) fn is_behind(&self, now: &RoomCursor) -> bool {
        if let RoomId::Trade(_) = self.id {
            return now.message > self.messages.floor;
        }
        now.bid_seq > self.auction.bid_seq
            || now.ends_at > self.auction.ends_at
            || now.phase != self.auction.phase
            || now.line > self.lines.floor
    }

    /// Takes events that were read from the store from [`cursor`](Self::cursor) on, and returns those to be sent now.
    pub(crate) fn catch_up(&mut self, events: Vec<RoomEvent>) -> Vec<RoomEvent> {
        let (mut line, mut message) = (0, 0);
        for event in &events {
            match event {
                RoomEvent::Line { id, .. } | RoomEvent::LineRemoved { id, .. } => line = id.get(),
                RoomEvent::TradeMessage { id, .. } => message = id.get(),
                _ => {}
            }
        }
        let of_room = events.into_iter().filter(|event| RoomId::of(event) == self.id).collect::<Vec<_>>();
        let ready = of_room.into_iter().flat_map(|event| self.take(event)).collect();
        self.lines.settle(line);
        self.messages.settle(message);
        ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{Bid, BidId, GoodsId, LineId, LineText, Price, Timestamp, User, UserId},
        store::writes::StoredBid,
    };
    use proptest::prelude::*;
    use std::sync::Arc;

    const GOODS: GoodsId = GoodsId::from_stored(1);
    const ROOM: RoomId = RoomId::Auction(GOODS);

    fn at(seq: i64) -> Timestamp {
        Timestamp::from_secs(1000 + seq)
    }

    fn bid(seq: i64) -> RoomEvent {
        let user = UserId::from_stored(2);
        let bid = Bid { goods: GOODS, user, price: Price::from_stored(seq), received_at: at(0) };
        let bid = StoredBid {
            id: BidId::from_stored(seq),
            bid,
            seq: BidSeq::from_stored(seq),
            high_price: bid.price,
            ends_at: at(0),
        };
        RoomEvent::Bid { bid, bidder: Arc::new(User::first_seen(user, None, None)) }
    }

    fn line(id: i64) -> RoomEvent {
        let author = Arc::new(User::first_seen(UserId::from_stored(3), None, None));
        let text = LineText::parse("x").unwrap();
        RoomEvent::Line { goods: GOODS, id: LineId::from_stored(id), author, text, at: at(0) }
    }

    fn extended(seq: i64) -> RoomEvent {
        RoomEvent::Extended { goods: GOODS, seq: BidSeq::from_stored(seq), ends_at: at(seq) }
    }

    fn ended(seq: i64) -> RoomEvent {
        RoomEvent::Ended { goods: GOODS, seq: BidSeq::from_stored(seq), buyer: None, high_price: None }
    }

    fn cursor(bids: i64, line: i64) -> RoomCursor {
        let bid_seq = BidSeq::from_stored(bids);
        RoomCursor { goods: GOODS, phase: Phase::Live, ends_at: at(0), bid_seq, line, message: 0 }
    }

    #[test]
    fn a_bid_waits_for_the_one_before_it_and_the_end_for_the_last() {
        let mut sequencer = EventSequencer::start(ROOM, cursor(4, 0), &[]);
        assert_eq!(sequencer.take(ended(6)), []);
        assert_eq!(sequencer.take(bid(6)), []);
        assert_eq!(sequencer.take(extended(6)), []);
        assert!(sequencer.is_waiting());
        assert_eq!(sequencer.take(bid(5)), [bid(5), bid(6), extended(6), ended(6)]);
        assert!(!sequencer.is_waiting());
        assert_eq!(sequencer.take(bid(5)), [], "once");
        assert_eq!(sequencer.take(ended(6)), [], "once");
        assert!(!sequencer.is_behind(&RoomCursor { phase: Phase::Ended, ends_at: at(6), ..cursor(6, 0) }));
    }

    #[test]
    fn events_received_before_the_start_are_sent_although_the_store_has_them() {
        let early = [bid(6), line(30)];
        let mut sequencer = EventSequencer::start(ROOM, cursor(6, 30), &early);
        let sent: Vec<RoomEvent> = early.clone().into_iter().flat_map(|event| sequencer.take(event)).collect();
        assert_eq!(sent, early);
    }

    #[test]
    fn a_line_lost_between_others_is_read_from_the_store() {
        let mut sequencer = EventSequencer::start(ROOM, cursor(0, 10), &[]);
        assert_eq!(sequencer.take(line(11)), [line(11)]);
        assert_eq!(sequencer.take(line(14)), [line(14)]);
        assert!(sequencer.is_behind(&cursor(0, 14)), "there may be lines between");
        assert_eq!(sequencer.cursor().line, 10);
        assert_eq!(sequencer.catch_up(vec![line(11), line(12), line(14)]), [line(12)]);
        assert!(!sequencer.is_behind(&cursor(0, 14)));
        assert_eq!(sequencer.take(line(12)), [], "it comes late");
    }

    #[test]
    fn a_line_that_comes_after_its_removal_is_not_sent() {
        let removed = |id, line| {
            let (id, line) = (LineId::from_stored(id), LineId::from_stored(line));
            RoomEvent::LineRemoved { goods: GOODS, id, line }
        };
        let mut sequencer = EventSequencer::start(ROOM, cursor(0, 10), &[]);
        assert_eq!(sequencer.take(line(11)), [line(11)]);
        assert_eq!(sequencer.take(removed(13, 12)), [removed(13, 12)]);
        assert_eq!(sequencer.take(line(12)), []);
        assert_eq!(sequencer.take(removed(13, 12)), [], "once");
        assert!(sequencer.is_behind(&cursor(0, 14)), "another was missed");
        assert_eq!(sequencer.catch_up(vec![line(11), removed(13, 12), removed(14, 11)]), [removed(14, 11)]);
        assert!(!sequencer.is_behind(&cursor(0, 14)));
    }

    #[test]
    fn waiting_events_are_bounded() {
        let mut sequencer = EventSequencer::start(ROOM, cursor(0, 0), &[]);
        for seq in 2..5000 {
            assert_eq!(sequencer.take(bid(seq)), []);
            sequencer.take(line(seq));
        }
        assert_eq!((sequencer.held.len(), sequencer.lines.above.len()), (HELD_EVENTS_LIMIT, SEEN_IDS_LIMIT));
        assert_eq!(sequencer.take(bid(1)).len(), HELD_EVENTS_LIMIT + 1, "the first bid and all that waited for it");
        assert!(sequencer.is_behind(&cursor(4999, 0)), "the rest is read from the store");
    }

    #[test]
    fn a_bid_waits_for_a_start_that_comes_later() {
        let scheduled = RoomCursor { phase: Phase::Scheduled, ..cursor(0, 0) };
        let mut sequencer = EventSequencer::start(ROOM, scheduled, &[]);
        assert_eq!(sequencer.take(bid(1)), []);
        assert!(sequencer.is_waiting());
        assert_eq!(sequencer.take(RoomEvent::Started(GOODS)), [RoomEvent::Started(GOODS), bid(1)]);
    }

    proptest! {
        /// Bids and lines come in any order, twice, late or never, and now and then the store is read. Each bid is sent
        /// once and in order, each line once, and in the end nothing is missing.
        #[test]
        fn every_event_is_sent_once_and_bids_in_order(steps in prop::collection::vec((0u8..8, 0usize..6), 1..200)) {
            let mut sequencer = EventSequencer::start(ROOM, cursor(0, 0), &[]);
            let (mut bids, mut lines) = (0, 0);
            let mut under_way: Vec<RoomEvent> = Vec::new();
            let mut sent: Vec<RoomEvent> = Vec::new();
            for (step, which) in steps {
                match step {
                    0 | 1 => { bids += 1; under_way.push(bid(bids)); under_way.push(bid(bids)); }
                    2 => { lines += 1; under_way.push(line(lines)); }
                    3..=5 if !under_way.is_empty() => {
                        let event = under_way.swap_remove(which % under_way.len());
                        sent.extend(sequencer.take(event));
                    }
                    6 if !under_way.is_empty() => { under_way.swap_remove(which % under_way.len()); }
                    _ => if sequencer.is_behind(&cursor(bids, lines)) {
                        let from = sequencer.cursor();
                        let events = (from.bid_seq.next().get()..=bids).map(bid).chain((from.line + 1..=lines).map(line)).collect();
                        sent.extend(sequencer.catch_up(events));
                    },
                }
            }
            let from = sequencer.cursor();
            let events = (from.bid_seq.next().get()..=bids).map(bid).chain((from.line + 1..=lines).map(line)).collect();
            sent.extend(sequencer.catch_up(events));
            let of = |is_bid: bool| sent.iter().filter(move |event| matches!(event, RoomEvent::Bid { .. }) == is_bid).cloned();
            prop_assert_eq!(of(true).collect::<Vec<_>>(), (1..=bids).map(bid).collect::<Vec<_>>());
            let mut line_ids: Vec<i64> = of(false).map(|event| match event { RoomEvent::Line { id, .. } => id.get(), _ => 0 }).collect();
            line_ids.sort_unstable();
            prop_assert_eq!(line_ids, (1..=lines).collect::<Vec<_>>());
            prop_assert!(!sequencer.is_waiting() && !sequencer.is_behind(&cursor(bids, lines)));
        }
    }
}
