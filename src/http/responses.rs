//! Users and goods as clients see them (`docs/protocol.md#goods`): the origin's fields, and the new ones beside them.

use std::sync::Arc;

use chrono_tz::Tz;
use serde::Serialize;

use super::participants::Participants;
use crate::{
    domain::{Timestamp, User},
    store::{BidListing, GoodsCard, GoodsDetail, GoodsFacts},
};

/// A user as other people see him.
#[derive(Serialize)]
pub(crate) struct UserShape {
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

/// What all shapes of goods say alike.
#[derive(Serialize)]
struct FactsShape {
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

impl FactsShape {
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
pub(crate) struct DetailShape {
    id: i64,
    seller: UserShape,
    buyer: Option<UserShape>,
    is_like: bool,
    images: Vec<ImageShape>,
    participants_count: usize,
    #[serde(flatten)]
    facts: FactsShape,
    like: Vec<i64>,
    bids: Vec<BidShape>,
    participants: Vec<ParticipantShape>,
}

impl DetailShape {
    /// Goods with who is in their room.
    pub(crate) fn new(goods: GoodsDetail, present: &[Arc<User>], time_zone: Tz, now: Timestamp) -> Self {
        let id = goods.facts.id.get();
        let bid = |bid: BidListing| BidShape { id: bid.bid_id, user: bid.username, price: bid.price, goods: id };
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
            facts: FactsShape::new(goods.facts, time_zone, now),
            like: goods.likes,
            bids: goods.bids.into_iter().map(bid).collect(),
        }
    }
}

/// One goods item of a list. `images` is one picture here.
#[derive(Serialize)]
pub(crate) struct ListShape {
    id: i64,
    seller: UserShape,
    buyer: Option<UserShape>,
    is_like: bool,
    images: Option<ImageShape>,
    participants_count: usize,
    #[serde(flatten)]
    facts: FactsShape,
    like: Vec<i64>,
}

impl ListShape {
    pub(crate) fn new(goods: GoodsCard, participants: &Participants, time_zone: Tz, now: Timestamp) -> Self {
        Self {
            id: goods.facts.id.get(),
            seller: UserShape::from(&goods.seller),
            buyer: goods.buyer.as_ref().map(UserShape::from),
            is_like: goods.is_like,
            images: goods.image.map(|image| ImageShape { image }),
            participants_count: participants.get(&goods.facts.id).copied().unwrap_or(0),
            facts: FactsShape::new(goods.facts, time_zone, now),
            like: goods.likes,
        }
    }
}

/// One recommended goods item: the people are names, and the picture is where it should be.
#[derive(Serialize)]
pub(crate) struct RecommendedShape {
    id: i64,
    seller: String,
    buyer: Option<String>,
    is_like: bool,
    image: Option<ImageShape>,
    participants_count: usize,
    #[serde(flatten)]
    facts: FactsShape,
    like: Vec<i64>,
}

impl RecommendedShape {
    pub(crate) fn new(goods: GoodsCard, participants: &Participants, time_zone: Tz, now: Timestamp) -> Self {
        Self {
            id: goods.facts.id.get(),
            seller: goods.seller.username,
            buyer: goods.buyer.map(|buyer| buyer.username),
            is_like: goods.is_like,
            image: goods.image.map(|image| ImageShape { image }),
            participants_count: participants.get(&goods.facts.id).copied().unwrap_or(0),
            facts: FactsShape::new(goods.facts, time_zone, now),
            like: goods.likes,
        }
    }
}
