//! Trades over HTTP: `GET /chat/`, `GET /chat/goods/{id}/`. Only seller and buyer of goods get anything (fault 13).

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use chrono_tz::Tz;
use serde::Serialize;

use super::{
    ApiError, Services,
    bids::{goods_id, no_such_goods},
    json, query,
    responses::UserShape,
};
use crate::{
    domain::{GoodsId, UserId},
    protocol::{Code, Problem},
    store::{
        TradeListing, TradeMessage, TradeTalk,
        writes::{ReadMessages, ReadTrade},
    },
};

/// With the reads before it, and what the ledger gets on top, within the 3 s of a 503.
const PATIENCE: Duration = Duration::from_millis(800);
/// The existing client's words where nothing has been written yet.
const NO_MESSAGE: &str = "거래를 시작해 주세요!";

#[derive(Serialize)]
struct TradeShape {
    id: GoodsId,
    seller: UserShape,
    buyer: UserShape,
    image: Option<String>,
    wait_cnt: i64,
    title: String,
    high_price: i64,
    last_message: LastShape,
}

#[derive(Serialize)]
struct LastShape {
    message: String,
    created_at: String,
}

impl TradeShape {
    fn new(trade: TradeListing, time_zone: Tz) -> Self {
        let (message, at) = trade.last.unwrap_or_else(|| (NO_MESSAGE.to_owned(), trade.opened_at));
        Self {
            id: trade.goods,
            seller: UserShape::from(&trade.seller),
            buyer: UserShape::from(&trade.buyer),
            image: trade.image,
            wait_cnt: trade.unread,
            title: trade.title,
            high_price: trade.high_price,
            last_message: LastShape { message, created_at: at.local(time_zone).micros() },
        }
    }
}

#[derive(Serialize)]
struct MessageShape {
    content: String,
    is_read: bool,
    created_at: String,
    author: UserShape,
}

impl MessageShape {
    fn new(message: TradeMessage, time_zone: Tz) -> Self {
        Self {
            author: UserShape::from(&message.author),
            content: message.content,
            is_read: message.is_read,
            created_at: message.created_at.local(time_zone).micros(),
        }
    }
}

/// The user's trades, the latest activity first.
pub(super) async fn list(request: HttpRequest, services: web::Data<Services>) -> Result<HttpResponse, ApiError> {
    let user = services.reader(&request).await?.user.id;
    let page = query::page(&request)?;
    let trades = query::not_past_the_end(page, services.store.trades(user, page).await?)?;
    let time_zone = services.config.draft.time_zone;
    Ok(json::ok(&trades.into_iter().map(|trade| TradeShape::new(trade, time_zone)).collect::<Vec<_>>()))
}

/// The messages of one trade. Who looks at them has read them.
pub(super) async fn show(
    request: HttpRequest,
    goods: web::Path<String>,
    services: web::Data<Services>,
) -> Result<HttpResponse, ApiError> {
    let reader = services.reader(&request).await?.user.id;
    let page = query::page(&request)?;
    let goods = goods_id(&goods)?;
    let messages = match services.store.trade_talk(goods, reader, page).await? {
        TradeTalk::Messages(messages) => query::not_past_the_end(page, messages)?,
        TradeTalk::UnknownGoods => return Err(no_such_goods()),
        TradeTalk::NotYours => {
            return Err(Problem::new(Code::Forbidden, "only seller and buyer of sold goods read this").into());
        }
    };
    let messages = mark_read(&services, goods, reader, messages).await;
    let time_zone = services.config.draft.time_zone;
    Ok(json::ok(&messages.into_iter().map(|message| MessageShape::new(message, time_zone)).collect::<Vec<_>>()))
}

/// Marks what the other side wrote as read, up to the newest of this page. Only if something is unread: whoever asks
/// again and again writes nothing.
async fn mark_read(
    services: &Services,
    goods: GoodsId,
    reader: UserId,
    mut messages: Vec<TradeMessage>,
) -> Vec<TradeMessage> {
    let is_unread = |message: &&TradeMessage| message.author.id != reader && !message.is_read;
    let Some(newest) = messages.iter().rev().find(is_unread) else { return messages };
    let read = ReadTrade { goods, reader, which: ReadMessages::UpTo(newest.id) };
    match services.ledger.write(read, PATIENCE).await {
        Ok(()) => messages.iter_mut().filter(|message| message.author.id != reader).for_each(|m| m.is_read = true),
        // What was read is still worth an answer; the next look marks it.
        Err(error) => log::debug!("messages about goods {goods} could not be marked as read: {error}"),
    }
    messages
}
