//! Trades: `GET /chat/` lists a user's trades, `GET /chat/goods/{id}/` the messages of one. Only seller and buyer may
//! read them (fault 13).

use actix_web::{HttpRequest, web::Path};
use chrono_tz::Tz;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Data, Response, Services, WRITE_TIMEOUT,
    bids::{goods_id, goods_not_found},
    json, problems, query,
    responses::UserResponse,
};
use crate::{
    domain::{GoodsId, UserId},
    protocol::{Code, Problem},
    store::{
        TradeHistory, TradeListing, TradeMessage,
        writes::{MarkMessagesRead, ReadMessages},
    },
};

/// The text that the existing client shows as the last message of a trade without messages.
const NO_MESSAGE_YET: &str = "거래를 시작해 주세요!";

#[derive(Serialize, ToSchema)]
#[schema(as = Trade)]
struct TradeResponse {
    id: GoodsId,
    seller: UserResponse,
    buyer: UserResponse,
    image: Option<String>,
    wait_cnt: i64,
    title: String,
    high_price: i64,
    last_message: LastMessageResponse,
}

#[derive(Serialize, ToSchema)]
#[schema(as = LastMessage)]
struct LastMessageResponse {
    message: String,
    created_at: String,
}

impl TradeResponse {
    fn new(trade: TradeListing, time_zone: Tz) -> Self {
        let (message, at) = trade.last.unwrap_or_else(|| (NO_MESSAGE_YET.to_owned(), trade.opened_at));
        Self {
            id: trade.goods,
            seller: trade.seller.into(),
            buyer: trade.buyer.into(),
            image: trade.image,
            wait_cnt: trade.unread,
            title: trade.title,
            high_price: trade.high_price,
            last_message: LastMessageResponse { message, created_at: at.local(time_zone).micros() },
        }
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = TradeMessage)]
struct MessageResponse {
    content: String,
    is_read: bool,
    created_at: String,
    author: UserResponse,
}

impl MessageResponse {
    fn new(message: TradeMessage, time_zone: Tz) -> Self {
        Self {
            author: message.author.into(),
            content: message.content,
            is_read: message.is_read,
            created_at: message.created_at.local(time_zone).micros(),
        }
    }
}

/// One page of the user's trades, those with the latest activity first.
#[utoipa::path(
    get, path = "/chat/", operation_id = "trades", tag = "trades", security(("bearer" = [])),
    params(("page" = Option<i64>, Query, minimum = 1, description = "From 1; past the end is 404")),
    responses(
        (status = 200, description = "Those with the latest activity first, 200 a page", body = Vec<TradeResponse>),
        problems::Caller, problems::InvalidValue, problems::NotFound,
    ),
)]
pub(super) async fn list(request: HttpRequest, services: Data) -> Response {
    let user = services.reader(&request).await?.user.id;
    let page = query::page(&request)?;
    let trades = query::reject_past_end(page, services.store.trades(user, page).await?)?;
    let time_zone = services.config.draft.time_zone;
    Ok(json::ok(&trades.into_iter().map(|trade| TradeResponse::new(trade, time_zone)).collect::<Vec<_>>()))
}

/// One page of a trade's messages. Requesting them marks them as read.
#[utoipa::path(
    get, path = "/chat/goods/{id}/", operation_id = "trade_messages", tag = "trades", security(("bearer" = [])),
    params(
        ("id" = GoodsId, Path, description = "The goods"),
        ("page" = Option<i64>, Query, minimum = 1, description = "From 1; past the end is 404"),
    ),
    responses(
        (
            status = 200, description = "Oldest first, 1000 a page; the first page is the newest",
            body = Vec<MessageResponse>,
        ),
        problems::Caller, problems::InvalidValue, problems::Forbidden, problems::NotFound,
    ),
)]
pub(super) async fn show(request: HttpRequest, goods: Path<String>, services: Data) -> Response {
    let reader = services.reader(&request).await?.user.id;
    let page = query::page(&request)?;
    let goods = goods_id(&goods)?;
    let messages = match services.store.trade_history(goods, reader, page).await? {
        TradeHistory::Messages(messages) => query::reject_past_end(page, messages)?,
        TradeHistory::UnknownGoods => return Err(goods_not_found()),
        TradeHistory::NotYours => {
            let detail = "only the seller and the buyer of sold goods may read their messages";
            return Err(Problem::new(Code::Forbidden, detail).into());
        }
    };
    let messages = mark_read(&services, goods, reader, messages).await;
    let time_zone = services.config.draft.time_zone;
    Ok(json::ok(&messages.into_iter().map(|message| MessageResponse::new(message, time_zone)).collect::<Vec<_>>()))
}

/// Marks the other side's messages as read, up to the newest of this page. Writes only if one is unread, so that
/// repeated requests cost no write.
async fn mark_read(
    services: &Services,
    goods: GoodsId,
    reader: UserId,
    mut messages: Vec<TradeMessage>,
) -> Vec<TradeMessage> {
    let is_unread = |message: &&TradeMessage| message.author.id != reader && !message.is_read;
    let Some(newest) = messages.iter().rev().find(is_unread) else { return messages };
    let read = MarkMessagesRead { goods, reader, which: ReadMessages::UpTo(newest.id) };
    match services.ledger.write(read, WRITE_TIMEOUT).await {
        Ok(()) => messages.iter_mut().filter(|message| message.author.id != reader).for_each(|m| m.is_read = true),
        // The messages are still worth a response; the next request marks them.
        Err(error) => log::debug!(goods = goods.get(), error:%; "trade messages could not be marked as read"),
    }
    messages
}
