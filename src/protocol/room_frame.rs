//! Frames that the server sends in auction rooms and trade chats, and the `alert` that refuses a client's frame.

use serde::Serialize;
use utoipa::ToSchema;

use super::{Code, Outcome, Problem};
use crate::domain::{BidId, BidSeq, GoodsId, LineId, Locale, Price, Timestamp, UserId};

/// A frame to the sockets of a room (`docs/protocol.md#the-auction-room`), or to one of them.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "response_type", rename_all = "snake_case")]
pub(crate) enum RoomFrame<'a> {
    /// A user has joined the room with their first socket.
    Enter {
        /// The user who joined.
        sender: UserId,
        sender_name: &'a str,
        /// How many users are in the room now.
        participants_count: usize,
        /// The same user again: the existing client reads both fields.
        user_id: UserId,
    },
    /// A user has left the room with their last socket.
    Out {
        /// How many users are in the room now.
        participants_count: usize,
        /// The user who left.
        user_id: UserId,
    },
    /// A bid was accepted and stored.
    Bid {
        /// The bidder.
        sender: UserId,
        sender_name: &'a str,
        /// The path of the bidder's picture.
        sender_image: &'a str,
        goods_id: GoodsId,
        /// The price of this bid, which leads now.
        high_price: Price,
        /// The number of the bid among the accepted ones, without gaps: a client sees when it has missed one.
        seq: BidSeq,
        bid_id: BidId,
        /// When the auction ends, after this bid.
        ends_at: Timestamp,
        server_time: Timestamp,
    },
    /// A line in an auction room, or a message in a trade chat.
    Message {
        /// Its id, by which it may be removed. In an auction room only.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<LineId>,
        /// The text as it was written.
        message: &'a str,
        sender: UserId,
        /// The path of the author's picture, in a trade chat only.
        #[serde(skip_serializing_if = "Option::is_none")]
        sender_image: Option<&'a str>,
        sender_name: &'a str,
        goods_id: GoodsId,
        /// The local time of day as the existing client shows it: `오후 05:25`.
        time: String,
    },
    /// A line is gone for everybody.
    Removed {
        /// The line.
        id: LineId,
        server_time: Timestamp,
    },
    Started {
        server_time: Timestamp,
    },
    Ended {
        /// The buyer, null if nobody bought.
        buyer_id: Option<UserId>,
        buyer_name: Option<&'a str>,
        /// The highest bid, 0 without one.
        high_price: i64,
        reason: EndReason,
        server_time: Timestamp,
    },
    /// A bid has moved the end of the auction.
    Extended {
        /// When the auction ends now.
        ends_at: Timestamp,
        server_time: Timestamp,
    },
    /// How many users and visitors are in the room now. At most every 5 s, when it has changed by a hundredth.
    Watchers {
        watchers: usize,
        server_time: Timestamp,
    },
    /// The first frame in a trade chat: what it is about.
    GoodsInfo {
        /// The path of the first picture, null without one.
        image: Option<&'a str>,
        /// What the goods were sold for.
        high_price: i64,
        title: &'a str,
        goods_id: GoodsId,
    },
    /// A frame of the client was refused. Sent to its author alone.
    Alert {
        /// The text that the client shows.
        message: &'static str,
        /// The code of the same problem over HTTP, for programs.
        code: &'static str,
        /// The price to beat, 0 before the first bid. With `bid_too_low` only.
        #[serde(skip_serializing_if = "Option::is_none")]
        high_price: Option<i64>,
    },
}

/// Why an auction has ended.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EndReason {
    Sold,
    NoBids,
    Cancelled,
}

impl RoomFrame<'static> {
    /// The alert for what HTTP would answer with this problem.
    pub(crate) fn alert(problem: &Problem, locale: Locale) -> Self {
        Self::Alert { message: text(problem, locale), code: problem.code().name(), high_price: problem.high_price() }
    }
}

/// The text of an alert. The Korean ones are the origin's where it had one.
fn text(problem: &Problem, locale: Locale) -> &'static str {
    match (locale, problem.code()) {
        (Locale::Ko, Code::SellerCannotBid) => "주최자는 입찰을 못 합니다.",
        (Locale::Ko, Code::BidTooLow) if problem.no_higher_bid_possible() => "더 높은 금액으로는 입찰할 수 없어요.",
        (Locale::Ko, Code::BidTooLow | Code::AuctionNotStarted | Code::AuctionEnded) => {
            "현재 입찰가보다 낮거나 종료된 경매입니다."
        }
        (Locale::Ko, Code::Unauthorized) => "로그인이 필요합니다.",
        (Locale::Ko, Code::TooManyRequests) => "너무 빨라요. 잠시 후 다시 시도해 주세요.",
        (Locale::Ko, Code::Unavailable) if problem.outcome() == Some(Outcome::Unknown) => {
            "입찰이 저장됐는지 알 수 없어요. 입찰 내역을 확인해 주세요."
        }
        (Locale::Ko, Code::Unavailable) => "지금은 처리할 수 없어요. 잠시 후 다시 시도해 주세요.",
        (Locale::Ko, _) => "올바르지 않은 접근",
        (Locale::En, Code::SellerCannotBid) => "Sellers cannot bid on their own goods.",
        (Locale::En, Code::BidTooLow) if problem.no_higher_bid_possible() => "No higher bid is possible.",
        (Locale::En, Code::BidTooLow | Code::AuctionNotStarted | Code::AuctionEnded) => {
            "The bid is too low, or the auction is not live."
        }
        (Locale::En, Code::Unauthorized) => "Please log in.",
        (Locale::En, Code::TooManyRequests) => "Too fast. Please try again in a moment.",
        (Locale::En, Code::Unavailable) if problem.outcome() == Some(Outcome::Unknown) => {
            "The bid may have been stored. Please look at the list of bids."
        }
        (Locale::En, Code::Unavailable) => "Not possible right now. Please try again in a moment.",
        (Locale::En, _) => "Not allowed.",
    }
}
