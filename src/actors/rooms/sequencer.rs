//! The course of a room's events where several nodes tell them: each is told once, bids in their order without a gap,
//! whichever way they come. Plain. What is missing is read from the store, from where [`EventSequencer::mark`] says.

use std::collections::{BTreeMap, BTreeSet};

use crate::actors::room_id::RoomId;
use crate::{
    domain::Phase,
    store::{RoomEvent, RoomMark},
};

/// News that wait for an earlier bid; what comes beyond is read from the store in its turn.
const MAX_HELD: usize = 1000;
/// Lines and messages told since the last reading of the store that are remembered one by one.
const MAX_REMEMBERED: usize = 2000;

/// Lines or messages: their ids rise with their commits, but have gaps, so that only the store knows what is missing.
#[derive(Debug, Default)]
struct Ids {
    /// Everything up to here has been told.
    floor: i64,
    told: BTreeSet<i64>,
}

impl Ids {
    fn is_new(&mut self, id: i64) -> bool {
        let is_new = id > self.floor && self.told.insert(id);
        if self.told.len() > MAX_REMEMBERED
            && let Some(oldest) = self.told.pop_first()
        {
            self.floor = oldest;
        }
        is_new
    }

    /// The store has been read up to here and everything was told.
    fn settle(&mut self, floor: i64) {
        self.floor = self.floor.max(floor);
        self.told = self.told.split_off(&(self.floor + 1));
    }
}

pub(crate) struct EventSequencer {
    id: RoomId,
    /// What has been told of the auction.
    mark: RoomMark,
    lines: Ids,
    messages: Ids,
    /// What comes after a bid that has not come: by the bid's number, then the bid, the end moved by it, the end after it.
    held: BTreeMap<(i64, u8), RoomEvent>,
}

impl EventSequencer {
    /// The course from here on; `waiting` is what was heard since somebody listened, and is still to be told.
    pub(crate) fn begin(id: RoomId, mark: RoomMark, waiting: &[RoomEvent]) -> Self {
        let mut mark = mark;
        for news in waiting {
            match news {
                RoomEvent::Bid { bid, .. } => mark.bid_seq = mark.bid_seq.min(bid.seq.saturating_sub(1)),
                RoomEvent::Line { id, .. } => mark.line = mark.line.min(id.get().saturating_sub(1)),
                RoomEvent::TradeMessage { id, .. } => mark.message = mark.message.min(id.get().saturating_sub(1)),
                RoomEvent::Started(_) => mark.phase = Phase::Scheduled,
                RoomEvent::Ended { .. } if mark.phase == Phase::Ended => mark.phase = Phase::Live,
                RoomEvent::Ended { .. } | RoomEvent::Extended { .. } | RoomEvent::Deleted(_) => {}
            }
        }
        let ids = |floor| Ids { floor, told: BTreeSet::new() };
        Self { id, mark, lines: ids(mark.line), messages: ids(mark.message), held: BTreeMap::new() }
    }

    /// Up to where everything has been told: the store is read from here.
    pub(crate) fn mark(&self) -> RoomMark {
        RoomMark { line: self.lines.floor, message: self.messages.floor, ..self.mark }
    }

    /// Something has happened: what may be told now.
    pub(crate) fn take(&mut self, news: RoomEvent) -> Vec<RoomEvent> {
        let is_told = match &news {
            RoomEvent::Started(_) => self.mark.phase == Phase::Scheduled,
            RoomEvent::Deleted(_) => true,
            RoomEvent::Line { id, .. } => self.lines.is_new(id.get()),
            RoomEvent::TradeMessage { id, .. } => self.messages.is_new(id.get()),
            RoomEvent::Bid { bid, .. } => return self.in_order((bid.seq, 0), news),
            RoomEvent::Extended { seq, .. } => return self.in_order((*seq, 1), news),
            RoomEvent::Ended { seq, .. } => return self.in_order((*seq, 2), news),
        };
        let has_started = is_told && matches!(news, RoomEvent::Started(_));
        let mut told: Vec<RoomEvent> = is_told.then_some(news).into_iter().collect();
        if has_started {
            self.mark.phase = Phase::Live;
            told.extend(self.next());
        }
        told
    }

    fn in_order(&mut self, place: (i64, u8), news: RoomEvent) -> Vec<RoomEvent> {
        self.held.insert(place, news);
        let told = self.next();
        if self.held.len() > MAX_HELD {
            // The farthest: what everything else waits for must always find room.
            self.held.pop_last();
        }
        told
    }

    /// What waits and may be told now.
    fn next(&mut self) -> Vec<RoomEvent> {
        let mut told = Vec::new();
        while let Some(entry) = self.held.first_entry() {
            let (seq, _) = *entry.key();
            let (is_new, is_next) = match entry.get() {
                // Another node may have told the start, which has yet to come.
                RoomEvent::Bid { .. } => {
                    let is_open = self.mark.phase != Phase::Scheduled;
                    (seq > self.mark.bid_seq, is_open && seq == self.mark.bid_seq + 1)
                }
                RoomEvent::Extended { ends_at, .. } => (*ends_at > self.mark.ends_at, seq <= self.mark.bid_seq),
                _ => (self.mark.phase != Phase::Ended, seq <= self.mark.bid_seq),
            };
            if !is_new {
                entry.remove();
                continue;
            }
            if !is_next {
                break;
            }
            let news = entry.remove();
            match &news {
                RoomEvent::Bid { .. } => self.mark.bid_seq = seq,
                RoomEvent::Extended { ends_at, .. } => self.mark.ends_at = *ends_at,
                _ => self.mark.phase = Phase::Ended,
            }
            told.push(news);
        }
        told
    }

    /// Something waits for an earlier bid that has not come.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.held.is_empty()
    }

    /// Whether the store has something that was not told, or may have.
    pub(crate) fn is_behind(&self, now: &RoomMark) -> bool {
        let told = &self.mark;
        if let RoomId::Trade(_) = self.id {
            return now.message > self.messages.floor;
        }
        now.bid_seq > told.bid_seq
            || now.ends_at > told.ends_at
            || now.phase != told.phase
            || now.line > self.lines.floor
    }

    /// The store was read from [`mark`](Self::mark) on: what of that is to be told.
    pub(crate) fn catch_up(&mut self, news: Vec<RoomEvent>) -> Vec<RoomEvent> {
        let (mut line, mut message) = (0, 0);
        for one in &news {
            match one {
                RoomEvent::Line { id, .. } => line = id.get(),
                RoomEvent::TradeMessage { id, .. } => message = id.get(),
                _ => {}
            }
        }
        let of_room = news.into_iter().filter(|news| RoomId::of(news) == self.id).collect::<Vec<_>>();
        let told = of_room.into_iter().flat_map(|news| self.take(news)).collect();
        self.lines.settle(line);
        self.messages.settle(message);
        told
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
        let bid = StoredBid { id: BidId::from_stored(seq), bid, seq, high_price: bid.price, ends_at: at(0) };
        RoomEvent::Bid { bid, bidder: Arc::new(User::first_seen(user, None, None)) }
    }

    fn line(id: i64) -> RoomEvent {
        let author = Arc::new(User::first_seen(UserId::from_stored(3), None, None));
        let text = LineText::parse("x").unwrap();
        RoomEvent::Line { goods: GOODS, id: LineId::from_stored(id), author, text, at: at(0) }
    }

    fn extended(seq: i64) -> RoomEvent {
        RoomEvent::Extended { goods: GOODS, seq, ends_at: at(seq) }
    }

    fn ended(seq: i64) -> RoomEvent {
        RoomEvent::Ended { goods: GOODS, seq, buyer: None, high_price: None }
    }

    fn mark(bid_seq: i64, line: i64) -> RoomMark {
        RoomMark { goods: GOODS, phase: Phase::Live, ends_at: at(0), bid_seq, line, message: 0 }
    }

    #[test]
    fn a_bid_waits_for_the_one_before_it_and_the_end_for_the_last() {
        let mut course = EventSequencer::begin(ROOM, mark(4, 0), &[]);
        assert_eq!(course.take(ended(6)), []);
        assert_eq!(course.take(bid(6)), []);
        assert_eq!(course.take(extended(6)), []);
        assert!(course.is_waiting());
        assert_eq!(course.take(bid(5)), [bid(5), bid(6), extended(6), ended(6)]);
        assert!(!course.is_waiting());
        assert_eq!(course.take(bid(5)), [], "once");
        assert_eq!(course.take(ended(6)), [], "once");
        assert!(!course.is_behind(&RoomMark { phase: Phase::Ended, ends_at: at(6), ..mark(6, 0) }));
    }

    #[test]
    fn what_was_heard_before_the_course_began_is_told_although_the_store_has_it() {
        let waiting = [bid(6), line(30)];
        let mut course = EventSequencer::begin(ROOM, mark(6, 30), &waiting);
        let told: Vec<RoomEvent> = waiting.clone().into_iter().flat_map(|news| course.take(news)).collect();
        assert_eq!(told, waiting);
    }

    #[test]
    fn a_line_that_was_lost_between_others_is_found_by_reading() {
        let mut course = EventSequencer::begin(ROOM, mark(0, 10), &[]);
        assert_eq!(course.take(line(11)), [line(11)]);
        assert_eq!(course.take(line(14)), [line(14)]);
        assert!(course.is_behind(&mark(0, 14)), "nobody knows what is between");
        assert_eq!(course.mark().line, 10);
        assert_eq!(course.catch_up(vec![line(11), line(12), line(14)]), [line(12)]);
        assert!(!course.is_behind(&mark(0, 14)));
        assert_eq!(course.take(line(12)), [], "it comes late after all");
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut course = EventSequencer::begin(ROOM, mark(0, 0), &[]);
        for seq in 2..5000 {
            assert_eq!(course.take(bid(seq)), []);
            course.take(line(seq));
        }
        assert_eq!((course.held.len(), course.lines.told.len()), (MAX_HELD, MAX_REMEMBERED));
        assert_eq!(course.take(bid(1)).len(), MAX_HELD + 1, "and it goes on: the first, and all that was held");
        assert!(course.is_behind(&mark(4999, 0)), "the rest is read");
    }

    #[test]
    fn a_bid_waits_for_the_start_that_another_node_tells() {
        let scheduled = RoomMark { phase: Phase::Scheduled, ..mark(0, 0) };
        let mut course = EventSequencer::begin(ROOM, scheduled, &[]);
        assert_eq!(course.take(bid(1)), []);
        assert!(course.is_waiting());
        assert_eq!(course.take(RoomEvent::Started(GOODS)), [RoomEvent::Started(GOODS), bid(1)]);
    }

    proptest! {
        /// Two nodes' bids and lines come in any order, twice, late or never; now and then the store is read. Each bid is
        /// told once and in order, each line once, and nothing is missing in the end.
        #[test]
        fn everything_is_told_once_and_bids_in_order(steps in prop::collection::vec((0u8..8, 0usize..6), 1..200)) {
            let mut course = EventSequencer::begin(ROOM, mark(0, 0), &[]);
            let (mut bids, mut lines) = (0, 0);
            let mut under_way: Vec<RoomEvent> = Vec::new();
            let mut told: Vec<RoomEvent> = Vec::new();
            for (step, which) in steps {
                match step {
                    0 | 1 => { bids += 1; under_way.push(bid(bids)); under_way.push(bid(bids)); }
                    2 => { lines += 1; under_way.push(line(lines)); }
                    3..=5 if !under_way.is_empty() => {
                        let news = under_way.swap_remove(which % under_way.len());
                        told.extend(course.take(news));
                    }
                    6 if !under_way.is_empty() => { under_way.swap_remove(which % under_way.len()); }
                    _ => if course.is_behind(&mark(bids, lines)) {
                        let from = course.mark();
                        let news = (from.bid_seq + 1..=bids).map(bid).chain((from.line + 1..=lines).map(line)).collect();
                        told.extend(course.catch_up(news));
                    },
                }
            }
            let from = course.mark();
            let news = (from.bid_seq + 1..=bids).map(bid).chain((from.line + 1..=lines).map(line)).collect();
            told.extend(course.catch_up(news));
            let of = |is_bid: bool| told.iter().filter(move |news| matches!(news, RoomEvent::Bid { .. }) == is_bid).cloned();
            prop_assert_eq!(of(true).collect::<Vec<_>>(), (1..=bids).map(bid).collect::<Vec<_>>());
            let mut said: Vec<i64> = of(false).map(|news| match news { RoomEvent::Line { id, .. } => id.get(), _ => 0 }).collect();
            said.sort_unstable();
            prop_assert_eq!(said, (1..=lines).collect::<Vec<_>>());
            prop_assert!(!course.is_waiting() && !course.is_behind(&mark(bids, lines)));
        }
    }
}
