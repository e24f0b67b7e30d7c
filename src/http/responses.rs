//! The JSON of users and goods (`docs/protocol.md#goods`): the origin's fields and the new ones.

use std::sync::Arc;

use chrono_tz::Tz;
use serde::Serialize;

use super::participants::Participants;
use crate::{
    domain::{Timestamp, User},
    store::{BidListing, GoodsCard, GoodsDetail, GoodsFacts},
};

/// A user as other users see them.
#[derive(Serialize)]
pub(crate) struct UserResponse {
    id: i64,
    username: String,
    profile_image: String,
    rating_score: i32,
    is_active: bool,
}

impl From<&User> for UserResponse {
    fn from(user: &User) -> Self {
        Self {
            id: user.id.get(),
            username: user.username.clone(),
            profile_image: user.profile_image.clone(),
            rating_score: user.rating_score,
            is_active: user.is_active,
        }
    }
}

#[derive(Serialize)]
struct ImageResponse {
    image: String,
}

/// The fields that all responses about goods have in common.
#[derive(Serialize)]
struct GoodsFactsResponse {
    title: String,
    content: String,
    category: String,
    status: Option<bool>,
    predict_price: i64,
    start_price: i64,
    high_price: i64,
    start_date: String,
    start_time: String,
    created_at: String,
    trade_room: Option<i64>,
    starts_at: Timestamp,
    ends_at: Timestamp,
    min_increment: i64,
    bid_seq: i64,
    like_count: i64,
    server_time: Timestamp,
}

impl GoodsFactsResponse {
    fn new(goods: GoodsFacts, time_zone: Tz, now: Timestamp) -> Self {
        let starts = goods.starts_at.local(time_zone);
        Self {
            title: goods.title,
            content: goods.content,
            category: goods.category,
            status: goods.phase.status(),
            predict_price: goods.predict_price,
            start_price: goods.start_price,
            high_price: goods.high_price,
            start_date: starts.date(),
            start_time: starts.minute(),
            created_at: goods.created_at.local(time_zone).micros(),
            trade_room: goods.trade_room,
            starts_at: goods.starts_at,
            ends_at: goods.ends_at,
            min_increment: goods.min_increment,
            bid_seq: goods.bid_seq,
            like_count: goods.like_count,
            server_time: now,
        }
    }
}

#[derive(Serialize)]
struct BidResponse {
    id: i64,
    user: String,
    price: i64,
    goods: i64,
}

#[derive(Serialize)]
struct ParticipantResponse {
    id: i64,
    user: String,
}

/// One goods item, with its bids and participants.
#[derive(Serialize)]
pub(crate) struct GoodsDetailResponse {
    id: i64,
    seller: UserResponse,
    buyer: Option<UserResponse>,
    is_like: bool,
    images: Vec<ImageResponse>,
    participants_count: usize,
    #[serde(flatten)]
    facts: GoodsFactsResponse,
    like: Vec<i64>,
    bids: Vec<BidResponse>,
    participants: Vec<ParticipantResponse>,
}

impl GoodsDetailResponse {
    /// `present` are the users in the auction room.
    pub(crate) fn new(goods: GoodsDetail, present: &[Arc<User>], time_zone: Tz, now: Timestamp) -> Self {
        let id = goods.facts.id.get();
        let bid = |bid: BidListing| BidResponse { id: bid.bid_id, user: bid.username, price: bid.price, goods: id };
        Self {
            id,
            seller: UserResponse::from(&goods.seller),
            buyer: goods.buyer.as_ref().map(UserResponse::from),
            is_like: goods.is_like,
            images: goods.images.into_iter().map(|image| ImageResponse { image }).collect(),
            participants_count: present.len(),
            participants: present
                .iter()
                .map(|user| ParticipantResponse { id: user.id.get(), user: user.username.clone() })
                .collect(),
            facts: GoodsFactsResponse::new(goods.facts, time_zone, now),
            like: goods.likes,
            bids: goods.bids.into_iter().map(bid).collect(),
        }
    }
}

/// One goods item in a list. Its `images` is one picture, as in the origin.
#[derive(Serialize)]
pub(crate) struct ListedGoodsResponse {
    id: i64,
    seller: UserResponse,
    buyer: Option<UserResponse>,
    is_like: bool,
    images: Option<ImageResponse>,
    participants_count: usize,
    #[serde(flatten)]
    facts: GoodsFactsResponse,
    like: Vec<i64>,
}

impl ListedGoodsResponse {
    pub(crate) fn new(goods: GoodsCard, participants: &Participants, time_zone: Tz, now: Timestamp) -> Self {
        Self {
            id: goods.facts.id.get(),
            seller: UserResponse::from(&goods.seller),
            buyer: goods.buyer.as_ref().map(UserResponse::from),
            is_like: goods.is_like,
            images: goods.image.map(|image| ImageResponse { image }),
            participants_count: participants.get(&goods.facts.id).copied().unwrap_or(0),
            facts: GoodsFactsResponse::new(goods.facts, time_zone, now),
            like: goods.likes,
        }
    }
}

/// One recommended goods item: users are names, and the picture is in `image`, as in the origin.
#[derive(Serialize)]
pub(crate) struct RecommendedGoodsResponse {
    id: i64,
    seller: String,
    buyer: Option<String>,
    is_like: bool,
    image: Option<ImageResponse>,
    participants_count: usize,
    #[serde(flatten)]
    facts: GoodsFactsResponse,
    like: Vec<i64>,
}

impl RecommendedGoodsResponse {
    pub(crate) fn new(goods: GoodsCard, participants: &Participants, time_zone: Tz, now: Timestamp) -> Self {
        Self {
            id: goods.facts.id.get(),
            seller: goods.seller.username,
            buyer: goods.buyer.map(|buyer| buyer.username),
            is_like: goods.is_like,
            image: goods.image.map(|image| ImageResponse { image }),
            participants_count: participants.get(&goods.facts.id).copied().unwrap_or(0),
            facts: GoodsFactsResponse::new(goods.facts, time_zone, now),
            like: goods.likes,
        }
    }
}
