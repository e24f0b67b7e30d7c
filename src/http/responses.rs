//! The JSON of users and goods (`docs/protocol.md#goods`): the origin's fields and the new ones.

use std::sync::Arc;

use chrono_tz::Tz;
use serde::Serialize;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        RefOr, Schema,
        schema::{ObjectBuilder, OneOfBuilder, Type},
    },
};

use crate::{
    actors::Present,
    domain::{PictureId, Timestamp, User, picture_path},
    store::{BidListing, GoodsCard, GoodsDetail, GoodsFacts},
};

/// A user as other users see them.
#[derive(Serialize, ToSchema)]
#[schema(as = User)]
pub(crate) struct UserResponse {
    id: i64,
    username: String,
    profile_image: String,
    rating_score: i32,
    is_active: bool,
}

impl From<User> for UserResponse {
    fn from(user: User) -> Self {
        let profile_image = user.picture_path().into_owned();
        let User { id, username, rating_score, is_active, .. } = user;
        Self { id: id.get(), username, profile_image, rating_score, is_active }
    }
}

/// Goods as all responses have them; `P` is a person, `I` the field with the pictures.
#[derive(Serialize, ToSchema)]
pub(crate) struct GoodsResponse<P, I> {
    id: i64,
    seller: P,
    #[schema(schema_with = or_null::<P>)]
    buyer: Option<P>,
    is_like: bool,
    #[serde(flatten)]
    pictures: I,
    participants_count: usize,
    /// Users and visitors in the room now.
    watchers: usize,
    #[serde(flatten)]
    facts: FactsResponse,
    like: Vec<i64>,
}

/// The schema of an `Option<P>`, which utoipa takes for a `P` where `P` is a parameter.
fn or_null<P: PartialSchema>() -> RefOr<Schema> {
    OneOfBuilder::new().item(P::schema()).item(ObjectBuilder::new().schema_type(Type::Null)).into()
}

/// All pictures.
#[derive(Serialize, ToSchema)]
pub(crate) struct AllPictures {
    images: Vec<ImageResponse>,
}

/// The first picture, under the name that the origin's lists use.
#[derive(Serialize, ToSchema)]
pub(crate) struct FirstPicture {
    pub images: Option<ImageResponse>,
}

/// The first picture of recommended goods, under the origin's name.
#[derive(Serialize, ToSchema)]
pub(crate) struct RecommendedPicture {
    pub image: Option<ImageResponse>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Image)]
pub(crate) struct ImageResponse {
    image: String,
}

#[derive(Serialize, ToSchema)]
#[schema(as = GoodsFacts)]
struct FactsResponse {
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
    /// The id that the marketplace's backend has for the goods.
    external_id: Option<String>,
    like_count: i64,
    server_time: Timestamp,
}

impl FactsResponse {
    fn new(goods: GoodsFacts, time_zone: Tz, now: Timestamp) -> Self {
        let starts = goods.starts_at.local(time_zone);
        Self {
            title: goods.title,
            content: goods.content,
            category: goods.category,
            status: goods.phase.status(),
            predict_price: goods.predict_price,
            start_price: goods.start_price,
            high_price: goods.high_price.unwrap_or(0),
            start_date: starts.date(),
            start_time: starts.minute(),
            created_at: goods.created_at.local(time_zone).micros(),
            trade_room: goods.trade_room,
            starts_at: goods.starts_at,
            ends_at: goods.ends_at,
            min_increment: goods.min_increment,
            bid_seq: goods.bid_seq,
            external_id: goods.external_id,
            like_count: goods.like_count,
            server_time: now,
        }
    }
}

/// What only the page of goods has: their bids, and who is in their room.
#[derive(Serialize, ToSchema)]
#[schema(as = GoodsRoom)]
struct RoomResponse {
    bids: Vec<BidResponse>,
    participants: Vec<ParticipantResponse>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = GoodsBid)]
struct BidResponse {
    id: i64,
    user: String,
    price: i64,
    goods: i64,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Participant)]
struct ParticipantResponse {
    id: i64,
    user: String,
}

impl<P, I> GoodsResponse<P, I> {
    pub(crate) fn new(
        card: GoodsCard,
        person: fn(User) -> P,
        pictures: fn(Vec<ImageResponse>) -> I,
        present: Present,
        (time_zone, now): (Tz, Timestamp),
    ) -> Self {
        let goods = card.facts.id;
        let path = |(position, picture): (usize, String)| ImageResponse {
            image: picture_path(&picture, PictureId::Goods(goods, position)).into_owned(),
        };
        let images = card.images.into_iter().enumerate().map(path).collect();
        Self {
            id: goods.get(),
            seller: person(card.seller),
            buyer: card.buyer.map(person),
            is_like: card.is_like,
            pictures: pictures(images),
            participants_count: present.participants,
            watchers: present.watchers,
            facts: FactsResponse::new(card.facts, time_zone, now),
            like: card.likes,
        }
    }
}

/// The page of one goods item.
#[derive(Serialize, ToSchema)]
pub(crate) struct GoodsPage {
    #[serde(flatten)]
    goods: GoodsResponse<UserResponse, AllPictures>,
    #[serde(flatten)]
    room: RoomResponse,
}

impl GoodsPage {
    /// `present` are the users in the auction room, `watchers` all who watch.
    pub(crate) fn new(goods: GoodsDetail, present: &[Arc<User>], watchers: usize, at: (Tz, Timestamp)) -> Self {
        let pictures = |images| AllPictures { images };
        let counts = Present { participants: present.len(), watchers };
        let card = GoodsResponse::new(goods.card, UserResponse::from, pictures, counts, at);
        let goods_id = card.id;
        let bid =
            |bid: BidListing| BidResponse { id: bid.bid_id, user: bid.username, price: bid.price, goods: goods_id };
        let participant = |user: &Arc<User>| ParticipantResponse { id: user.id.get(), user: user.username.clone() };
        let bids = goods.bids.into_iter().map(bid).collect();
        Self { goods: card, room: RoomResponse { bids, participants: present.iter().map(participant).collect() } }
    }
}
