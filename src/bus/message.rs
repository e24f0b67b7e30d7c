//! What nodes say to each other, and how it is written. Facts, not frames: each node makes its own frames.

use rand::Rng;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::channel::Channel;
use crate::{
    domain::{Alarm, GoodsId, Receiver, User, UserId},
    store::RoomEvent,
};

/// How it is written; part of every channel's name. Nodes that write differently don't hear each other and read the
/// store instead, as while a new version is rolled out.
pub(crate) const FORMAT: u32 = 1;

/// A node, for as long as its process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(u64);

impl NodeId {
    pub(crate) fn random() -> Self {
        Self(rand::rng().random())
    }

    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    #[cfg(test)]
    pub(crate) const fn of_test(bits: u64) -> Self {
        Self(bits)
    }
}

impl std::fmt::Display for NodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Somebody has come into an auction room on a node with his first socket there, or gone with his last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    /// In whose room.
    pub goods: GoodsId,
    /// Who.
    pub user: User,
    /// Come or gone.
    pub is_here: bool,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BusMessage {
    /// An alarm is in somebody's inbox.
    Alarm(Alarm, Receiver),
    /// A user has read something: what is left.
    Unread {
        /// Who.
        user: UserId,
        /// Unread alarms.
        unread: i64,
        /// Newest alarm in the inbox, 0 if none.
        last_id: i64,
    },
    /// Something that a user sent is refused: JSON for his alarm sessions.
    Alert(UserId, String),
    /// Something happened in the rooms of goods.
    News(RoomEvent),
    /// Comings and goings.
    Present(Vec<Presence>),
    /// A part of all who are in rooms on a node: what was known of them before holds no more when all parts are here.
    AllPresent {
        /// In whose room, and who.
        part: Vec<(GoodsId, User)>,
        /// Which part, counted from 0.
        at: u32,
        /// How many there are.
        of: u32,
    },
    /// A user has changed.
    User(User),
    /// The node lives. With `asks` it has just come, and asks who is present.
    Beat {
        /// Whether it asks.
        asks: bool,
    },
    /// The node ends.
    Leaving,
    /// A user has opened more sockets than he may have: this one, of that node, has to go.
    TooMany {
        /// Which node has it.
        node: NodeId,
        /// Whose it is.
        user: UserId,
        /// Which one.
        connection: u64,
    },
}

/// Any channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum AnyChannel {
    /// All nodes.
    Nodes,
    /// Those that hold it.
    Held(Channel),
}

impl AnyChannel {
    pub(crate) fn name(self, prefix: &str) -> String {
        match self {
            Self::Nodes => format!("{prefix}nodes"),
            Self::Held(Channel::User(user)) => format!("{prefix}user:{user}"),
            Self::Held(Channel::Auction(goods)) => format!("{prefix}auction:{goods}"),
            Self::Held(Channel::Trade(goods)) => format!("{prefix}trade:{goods}"),
        }
    }
}

/// What waits to be told.
pub(crate) enum Outgoing {
    /// One message on one channel.
    One(AnyChannel, BusMessage),
    /// An alarm on the channels of its receivers.
    Alarm(Alarm, Vec<Receiver>),
    /// The last words; who waits for them.
    Stop(oneshot::Sender<()>),
}

/// A message with its sender, ready for the wire.
pub(crate) fn write(from: NodeId, told: &BusMessage) -> Vec<u8> {
    // Plain data: writing it into memory can't fail.
    postcard::to_allocvec(&(from, told)).unwrap_or_default()
}

/// Whose message it is that came over the wire, and the rest of it. What a node itself has said comes back to it as well,
/// and needs no reading.
pub(crate) fn read_sender(bytes: &[u8]) -> Option<(NodeId, &[u8])> {
    postcard::take_from_bytes(bytes).ok()
}

/// What was said; `None` if it is no message.
pub(crate) fn read(rest: &[u8]) -> Option<BusMessage> {
    postcard::from_bytes(rest).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{AlarmId, AlarmKind, Bid, BidId, EventId, LineId, LineText, Price, Sender, Timestamp},
        store::writes::StoredBid,
    };
    use proptest::prelude::*;
    use std::sync::Arc;

    fn user() -> User {
        User::first_seen(UserId::from_stored(7), Some("핸더"), Some(3))
    }

    #[test]
    fn what_is_written_is_read_to_the_microsecond() {
        let at = Timestamp::from_micros(1_795_336_167_865_999);
        let goods = GoodsId::from_stored(5);
        let alarm = Alarm {
            id: AlarmId::from_stored(11),
            event: EventId::from_stored(10),
            kind: AlarmKind::Chat,
            goods: Some(goods),
            goods_title: Some("<b>".into()),
            created_at: at,
            high_price: None,
            ends_at: Some(at),
            start_price: Some(Price::from_stored(1)),
            trade_room: None,
            bid_seq: Some(4),
            text: Some("\u{2028}".into()),
            sender: Some(Sender { id: UserId::from_stored(1), name: "a".into() }),
        };
        let bid = Bid { goods, user: UserId::from_stored(2), price: Price::from_stored(9), received_at: at };
        let bid = StoredBid { id: BidId::from_stored(3), bid, seq: 4, high_price: bid.price, ends_at: at };
        let line = LineText::parse("hello").unwrap();
        let all = [
            BusMessage::Alarm(alarm, Receiver { user: UserId::from_stored(i64::MAX), after: 9 }),
            BusMessage::Unread { user: UserId::from_stored(1), unread: 2, last_id: 3 },
            BusMessage::Alert(UserId::from_stored(1), "{}".into()),
            BusMessage::News(RoomEvent::Bid { bid, bidder: Arc::new(user()) }),
            BusMessage::News(RoomEvent::Line {
                goods,
                id: LineId::from_stored(1),
                author: Arc::new(user()),
                text: line,
                at,
            }),
            BusMessage::News(RoomEvent::Ended { goods, seq: 4, buyer: None, high_price: None }),
            BusMessage::Present(vec![Presence { goods, user: user(), is_here: true }]),
            BusMessage::AllPresent { part: vec![(goods, user())], at: 0, of: 2 },
            BusMessage::User(user()),
            BusMessage::Beat { asks: true },
            BusMessage::Leaving,
            BusMessage::TooMany { node: NodeId::of_test(7), user: UserId::from_stored(1), connection: 9 },
        ];
        for told in all {
            let node = NodeId::random();
            let bytes = write(node, &told);
            let (from, rest) = read_sender(&bytes).unwrap();
            assert_eq!((from, read(rest)), (node, Some(told)));
        }
    }

    /// Enums are written by their place: whoever adds one in the middle must raise `FORMAT`, or nodes of two versions
    /// misunderstand each other.
    #[test]
    fn what_is_written_stays_as_it_is_while_the_format_does() {
        let user = UserId::from_stored(5);
        let bytes = |told: BusMessage| write(NodeId::of_test(1), &told);
        assert_eq!(FORMAT, 1);
        assert_eq!(bytes(BusMessage::Unread { user, unread: 2, last_id: 3 }), [1, 1, 10, 4, 6]);
        assert_eq!(bytes(BusMessage::Alert(user, "x".into())), [1, 2, 10, 1, b'x']);
        assert_eq!(bytes(BusMessage::News(RoomEvent::Started(GoodsId::from_stored(1)))), [1, 3, 0, 2]);
        assert_eq!(bytes(BusMessage::News(RoomEvent::Deleted(GoodsId::from_stored(1)))), [1, 3, 6, 2]);
        assert_eq!(bytes(BusMessage::Present(Vec::new())), [1, 4, 0]);
        assert_eq!(bytes(BusMessage::AllPresent { part: Vec::new(), at: 0, of: 1 }), [1, 5, 0, 0, 1]);
        assert_eq!(bytes(BusMessage::Beat { asks: true }), [1, 7, 1]);
        assert_eq!(bytes(BusMessage::Leaving), [1, 8]);
        assert_eq!(bytes(BusMessage::TooMany { node: NodeId::of_test(3), user, connection: 4 }), [1, 9, 3, 10, 4]);
        let kinds: Vec<u8> = AlarmKind::ALL.iter().flat_map(|kind| postcard::to_allocvec(kind).unwrap()).collect();
        assert_eq!(kinds, [0, 1, 2, 3, 4, 5, 6, 7]);
    }

    proptest! {
        /// Whatever stands on a channel: it is a message or it is not, and nothing else happens.
        #[test]
        fn garbage_is_no_message(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_sender(&bytes).map(|(_, rest)| read(rest));
        }
    }

    #[test]
    fn a_text_that_is_too_long_is_no_message() {
        let goods = GoodsId::from_stored(5);
        let at = Timestamp::from_secs(1);
        let text = LineText::parse(&"x".repeat(100)).unwrap();
        let line = RoomEvent::Line { goods, id: LineId::from_stored(1), author: Arc::new(user()), text, at };
        let mut bytes = write(NodeId::of_test(1), &BusMessage::News(line)).split_off(1);
        assert!(read(&bytes).is_some());
        let last = bytes.iter().rposition(|byte| *byte == b'x').unwrap();
        let length = bytes.iter().position(|byte| *byte == b'x').unwrap() - 1;
        assert_eq!(bytes[length], 100);
        bytes[length] = 101;
        bytes.insert(last, b'x');
        assert_eq!(read(&bytes), None);
    }
}
