//! What nodes send each other, and its encoding. Messages are facts and not frames: each node encodes its own frames.
//!
//! `postcard` encodes enums by the index of the variant. The order of variants is therefore part of [`FORMAT`], here
//! and in every type that a message contains.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::channel::Channel;
use crate::{
    domain::{Alarm, GoodsId, Locale, Receiver, User, UserId},
    store::RoomEvent,
};

/// The version of the encoding, part of every channel's name. Nodes of different versions, as during a rolling update,
/// don't receive each other's messages; they read the store instead.
pub(crate) const FORMAT: u32 = 1;

/// A node: one process, from its start to its end. A node that restarts gets a new id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(u64);

impl NodeId {
    pub(crate) fn random() -> Self {
        Self(rand::random())
    }

    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

impl std::fmt::Display for NodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// One connection of a client to this node. Ids rise and are never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConnectionId(pub u64);

impl ConnectionId {
    /// The id of a new connection.
    pub(crate) fn next() -> Self {
        static CONNECTIONS: AtomicU64 = AtomicU64::new(0);
        Self(CONNECTIONS.fetch_add(1, Ordering::Relaxed))
    }
}

impl std::fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A user has opened their first socket in an auction room on a node, or closed their last one there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresenceChange {
    pub goods: GoodsId,
    pub user: User,
    /// True: they have come. False: they have gone.
    pub is_here: bool,
}

/// One message. The order of the variants is part of `FORMAT`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BusMessage {
    /// An alarm is in this receiver's inbox.
    Alarm(Alarm, Receiver),
    Unread {
        user: UserId,
        unread: i64,
        /// Newest alarm in the inbox, 0 if none.
        last_id: i64,
    },
    /// Something that a user sent is refused. The text is JSON for their alarm sessions.
    Alert(UserId, String),
    RoomEvent(RoomEvent),
    /// Users have come into auction rooms on the sending node, or gone from them.
    PresenceChanges(Vec<PresenceChange>),
    /// A part of all users who are in auction rooms on the sending node. Once all parts have arrived, they replace what
    /// was known of that node.
    PresenceSnapshot {
        /// Rooms, by their goods, with a user in each.
        part: Vec<(GoodsId, User)>,
        index: u32,
        total: u32,
    },
    /// A user's name, picture or state has changed.
    UserChanged(User),
    /// The sending node lives.
    Heartbeat {
        /// The node has just connected, or missed messages: the others announce who is present on them.
        wants_presence: bool,
    },
    /// The sending node stops.
    Leaving,
    /// A user has opened more sockets than allowed: this one has to close.
    EvictSocket {
        node: NodeId,
        user: UserId,
        connection: ConnectionId,
    },
    /// A user has chosen a language, or none.
    LocaleChanged(UserId, Option<Locale>),
    /// How many visitors are in auction rooms on the sending node; in all others there are none.
    Visitors(Vec<(GoodsId, u32)>),
}

/// A channel in Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum AnyChannel {
    /// The channel to which every node is subscribed.
    AllNodes,
    /// The channel of a user or a room.
    One(Channel),
}

impl AnyChannel {
    pub(crate) fn name(self, prefix: &str) -> String {
        match self {
            Self::AllNodes => format!("{prefix}nodes"),
            Self::One(Channel::User(user)) => format!("{prefix}user:{user}"),
            Self::One(Channel::Auction(goods)) => format!("{prefix}auction:{goods}"),
            Self::One(Channel::Trade(goods)) => format!("{prefix}trade:{goods}"),
        }
    }
}

/// What waits to be sent.
pub(crate) enum Outgoing {
    /// One message on one channel.
    Message(AnyChannel, BusMessage),
    /// An alarm, on the channels of its receivers.
    Alarm(Alarm, Vec<Receiver>),
    /// The node stops. The sender is used when the others have been notified.
    Stop(oneshot::Sender<()>),
}

/// Encodes a message with its sender.
pub(crate) fn encode(from: NodeId, message: &BusMessage) -> Vec<u8> {
    // Plain data into memory: this can't fail.
    postcard::to_allocvec(&(from, message)).unwrap_or_default()
}

/// Decodes the sender; returns it with the remaining bytes. A node need not decode the rest of its own messages, which
/// come back to it.
pub(crate) fn decode_sender(bytes: &[u8]) -> Option<(NodeId, &[u8])> {
    postcard::take_from_bytes(bytes).ok()
}

/// Decodes the message behind the sender; `None` if the bytes are none.
pub(crate) fn decode(rest: &[u8]) -> Option<BusMessage> {
    postcard::from_bytes(rest).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{
            AlarmCursor, AlarmId, AlarmKind, Bid, BidId, BidSeq, EventId, LineId, LineText, Price, Sender, Timestamp,
        },
        store::writes::StoredBid,
    };
    use proptest::prelude::*;
    use std::sync::Arc;

    fn user() -> User {
        User::first_seen(UserId::from_stored(7), Some("핸더"), Some(3))
    }

    #[test]
    fn an_encoded_message_decodes_to_the_same_to_the_microsecond() {
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
            bid_seq: Some(BidSeq::from_stored(4)),
            text: Some("\u{2028}".into()),
            sender: Some(Sender { id: UserId::from_stored(1), name: "a".into() }),
        };
        let bid = Bid { goods, user: UserId::from_stored(2), price: Price::from_stored(9), received_at: at };
        let bid = StoredBid {
            id: BidId::from_stored(3),
            bid,
            seq: BidSeq::from_stored(4),
            high_price: bid.price,
            ends_at: at,
        };
        let line = LineText::parse("hello").unwrap();
        let all = [
            BusMessage::Alarm(
                alarm,
                Receiver { user: UserId::from_stored(i64::MAX), after: AlarmCursor::from_number(9) },
            ),
            BusMessage::Unread { user: UserId::from_stored(1), unread: 2, last_id: 3 },
            BusMessage::Alert(UserId::from_stored(1), "{}".into()),
            BusMessage::RoomEvent(RoomEvent::Bid { bid, bidder: Arc::new(user()) }),
            BusMessage::RoomEvent(RoomEvent::Line {
                goods,
                id: LineId::from_stored(1),
                author: Arc::new(user()),
                text: line,
                at,
            }),
            BusMessage::RoomEvent(RoomEvent::Ended {
                goods,
                seq: BidSeq::from_stored(4),
                buyer: None,
                high_price: None,
            }),
            BusMessage::PresenceChanges(vec![PresenceChange { goods, user: user(), is_here: true }]),
            BusMessage::PresenceSnapshot { part: vec![(goods, user())], index: 0, total: 2 },
            BusMessage::UserChanged(user()),
            BusMessage::Heartbeat { wants_presence: true },
            BusMessage::Leaving,
            BusMessage::EvictSocket {
                node: NodeId::from_bits(7),
                user: UserId::from_stored(1),
                connection: ConnectionId(9),
            },
            BusMessage::LocaleChanged(UserId::from_stored(1), Some(Locale::En)),
            BusMessage::Visitors(vec![(goods, 300)]),
        ];
        for message in all {
            let node = NodeId::random();
            let bytes = encode(node, &message);
            let (from, rest) = decode_sender(&bytes).unwrap();
            assert_eq!((from, decode(rest)), (node, Some(message)));
        }
    }

    /// A variant that is added in the middle needs a new `FORMAT`. Otherwise nodes of two versions misunderstand each
    /// other.
    #[test]
    fn the_encoding_changes_only_with_the_format() {
        let user = UserId::from_stored(5);
        let bytes = |message: BusMessage| encode(NodeId::from_bits(1), &message);
        assert_eq!(FORMAT, 1);
        assert_eq!(bytes(BusMessage::Unread { user, unread: 2, last_id: 3 }), [1, 1, 10, 4, 6]);
        assert_eq!(bytes(BusMessage::Alert(user, "x".into())), [1, 2, 10, 1, b'x']);
        assert_eq!(bytes(BusMessage::RoomEvent(RoomEvent::Started(GoodsId::from_stored(1)))), [1, 3, 0, 2]);
        assert_eq!(bytes(BusMessage::RoomEvent(RoomEvent::Deleted(GoodsId::from_stored(1)))), [1, 3, 6, 2]);
        let cancelled = RoomEvent::Cancelled { goods: GoodsId::from_stored(1), seq: BidSeq::from_stored(2) };
        assert_eq!(bytes(BusMessage::RoomEvent(cancelled)), [1, 3, 7, 2, 4]);
        let (id, line) = (LineId::from_stored(3), LineId::from_stored(2));
        let removed = RoomEvent::LineRemoved { goods: GoodsId::from_stored(1), id, line };
        assert_eq!(bytes(BusMessage::RoomEvent(removed)), [1, 3, 8, 2, 6, 4]);
        assert_eq!(bytes(BusMessage::PresenceChanges(Vec::new())), [1, 4, 0]);
        assert_eq!(bytes(BusMessage::PresenceSnapshot { part: Vec::new(), index: 0, total: 1 }), [1, 5, 0, 0, 1]);
        assert_eq!(bytes(BusMessage::Heartbeat { wants_presence: true }), [1, 7, 1]);
        assert_eq!(bytes(BusMessage::Leaving), [1, 8]);
        assert_eq!(
            bytes(BusMessage::EvictSocket { node: NodeId::from_bits(3), user, connection: ConnectionId(4) }),
            [1, 9, 3, 10, 4]
        );
        assert_eq!(bytes(BusMessage::LocaleChanged(user, Some(Locale::En))), [1, 10, 10, 1, 1]);
        let kinds: Vec<u8> = AlarmKind::ALL.iter().flat_map(|kind| postcard::to_allocvec(kind).unwrap()).collect();
        assert_eq!(kinds, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    }

    proptest! {
        #[test]
        fn garbage_decodes_to_nothing_and_does_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_sender(&bytes).map(|(_, rest)| decode(rest));
        }
    }

    #[test]
    fn a_message_with_a_text_that_is_too_long_is_refused() {
        let goods = GoodsId::from_stored(5);
        let at = Timestamp::from_secs(1);
        let text = LineText::parse(&"x".repeat(100)).unwrap();
        let line = RoomEvent::Line { goods, id: LineId::from_stored(1), author: Arc::new(user()), text, at };
        let mut bytes = encode(NodeId::from_bits(1), &BusMessage::RoomEvent(line)).split_off(1);
        assert!(decode(&bytes).is_some());
        let last = bytes.iter().rposition(|byte| *byte == b'x').unwrap();
        let length = bytes.iter().position(|byte| *byte == b'x').unwrap() - 1;
        assert_eq!(bytes[length], 100);
        bytes[length] = 101;
        bytes.insert(last, b'x');
        assert_eq!(decode(&bytes), None);
    }
}
