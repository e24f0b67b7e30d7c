//! Frames of the auction room and the trade chat, and the `alert` with which a refusal goes to its author alone.

use serde::Serialize;

use super::{Code, Outcome, Problem};
use crate::domain::{BidId, GoodsId, Locale, Price, Timestamp, UserId};

/// A frame to the sockets of a room (`docs/protocol.md#the-auction-room`).
#[derive(Debug, Serialize)]
#[serde(tag = "response_type", rename_all = "snake_case")]
pub enum RoomFrame<'a> {
    /// A logged-in user comes in, with his first socket.
    Enter {
        /// Who.
        sender: UserId,
        /// His name.
        sender_name: &'a str,
        /// Users in the room now.
        participants_count: usize,
        /// Who, again: the existing client reads both.
        user_id: UserId,
    },
    /// He has left, with his last socket.
    Out {
        /// Users in the room now.
        participants_count: usize,
        /// Who.
        user_id: UserId,
    },
    /// An accepted bid, on disk.
    Bid {
        /// Who bid.
        sender: UserId,
        /// His name.
        sender_name: &'a str,
        /// His picture.
        sender_image: &'a str,
        /// On what.
        goods_id: GoodsId,
        /// The price that leads now: this bid's.
        high_price: Price,
        /// Its number among the accepted bids: a gap can be seen and fetched.
        seq: i64,
        /// Its id.
        bid_id: BidId,
        /// The end after it.
        ends_at: Timestamp,
        /// The server's time.
        server_time: Timestamp,
    },
    /// A line in the auction room, or a message of a trade (with the author's picture).
    Message {
        /// The text as it was written.
        message: &'a str,
        /// Who.
        sender: UserId,
        /// His picture, in a trade.
        #[serde(skip_serializing_if = "Option::is_none")]
        sender_image: Option<&'a str>,
        /// His name.
        sender_name: &'a str,
        /// In whose room.
        goods_id: GoodsId,
        /// `오후 05:25`
        time: String,
    },
    /// The auction is live.
    Started,
    /// The auction is over.
    Ended {
        /// Who bought; null if nobody.
        buyer_id: Option<UserId>,
        /// His name.
        buyer_name: Option<&'a str>,
        /// The price reached, 0 without a bid.
        high_price: i64,
    },
    /// The end has moved.
    Extended {
        /// The end now.
        ends_at: Timestamp,
    },
    /// First frame of a trade socket.
    GoodsInfo {
        /// The first picture.
        image: Option<&'a str>,
        /// What they were sold for.
        high_price: i64,
        /// Their title.
        title: &'a str,
        /// Which goods.
        goods_id: GoodsId,
    },
    /// A refusal, to its author alone.
    Alert {
        /// For people.
        message: &'static str,
        /// For programs: the code that HTTP would answer with.
        code: &'static str,
        /// Of `bid_too_low`: the price to beat, 0 before the first bid.
        #[serde(skip_serializing_if = "Option::is_none")]
        high_price: Option<i64>,
    },
}

impl RoomFrame<'static> {
    /// The alert that says what HTTP would say with this problem.
    pub fn alert(problem: &Problem, locale: Locale) -> Self {
        Self::Alert { message: text(problem, locale), code: problem.code().name(), high_price: problem.high_price() }
    }
}

/// The origin's texts where it had one.
fn text(problem: &Problem, locale: Locale) -> &'static str {
    match (locale, problem.code()) {
        (Locale::Ko, Code::SellerCannotBid) => "주최자는 입찰을 못 합니다.",
        (Locale::Ko, Code::BidTooLow) if problem.leaves_no_room() => "더 높은 금액으로는 입찰할 수 없어요.",
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
        (Locale::En, Code::BidTooLow) if problem.leaves_no_room() => "No higher bid is possible.",
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
