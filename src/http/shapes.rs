//! Bodies in the origin's shapes (ORIGIN.md 3), with the contract's new fields beside the old ones.

use std::sync::Arc;

use chrono_tz::Tz;
use serde::Serialize;

use crate::{
    domain::{Timestamp, User},
    store::GoodsDetail,
};

/// A user as other people see him.
#[derive(Serialize)]
pub(super) struct UserShape {
    id: i64,
    username: String,
    profile_image: String,
    rating_score: i32,
    is_active: bool,
}

impl From<&User> for UserShape {
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
struct ImageShape {
    image: String,
}

#[derive(Serialize)]
struct BidShape {
    id: i64,
    user: String,
    price: i64,
    goods: i64,
}

#[derive(Serialize)]
struct ParticipantShape {
    id: i64,
    user: String,
}

/// One goods item with everything that its page shows.
#[derive(Serialize)]
pub(super) struct DetailShape {
    id: i64,
    seller: UserShape,
    buyer: Option<UserShape>,
    is_like: bool,
    images: Vec<ImageShape>,
    participants_count: usize,
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
    like: Vec<i64>,
    bids: Vec<BidShape>,
    participants: Vec<ParticipantShape>,
    starts_at: Timestamp,
    ends_at: Timestamp,
    min_increment: i64,
    bid_seq: i64,
    like_count: i64,
    server_time: Timestamp,
}

impl DetailShape {
    /// Goods with who is in their room.
    pub(super) fn new(goods: GoodsDetail, present: &[Arc<User>], time_zone: Tz, now: Timestamp) -> Self {
        let starts = goods.starts_at.local(time_zone);
        let id = goods.id;
        Self {
            id,
            seller: UserShape::from(&goods.seller),
            buyer: goods.buyer.as_ref().map(UserShape::from),
            is_like: goods.is_like,
            images: goods.images.into_iter().map(|image| ImageShape { image }).collect(),
            participants_count: present.len(),
            participants: present
                .iter()
                .map(|user| ParticipantShape { id: user.id.get(), user: user.username.clone() })
                .collect(),
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
            like: goods.likes,
            bids: goods
                .bids
                .into_iter()
                .map(|bid| BidShape { id: bid.bid_id, user: bid.username, price: bid.price, goods: id })
                .collect(),
            starts_at: goods.starts_at,
            ends_at: goods.ends_at,
            min_increment: goods.min_increment,
            bid_seq: goods.bid_seq,
            like_count: goods.like_count,
            server_time: now,
        }
    }
}
