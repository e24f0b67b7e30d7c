//! `GET /alarms` and `GET /alarms/unread`: the inbox over HTTP.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;

use super::{ApiError, Services, query};
use crate::{protocol::AlarmBody, store::AlarmQuery};

/// Alarms of one page where the client doesn't say.
const PAGE: i64 = 50;

#[derive(Serialize)]
struct Inbox<'a> {
    results: Vec<AlarmBody<'a>>,
    unread: i64,
    last_id: i64,
}

#[derive(Serialize)]
struct Unread {
    unread: i64,
    last_id: i64,
}

/// One page of the user's inbox.
pub(super) async fn list(request: HttpRequest, services: web::Data<Services>) -> Result<HttpResponse, ApiError> {
    let user = services.user(&request).await?.user.id;
    let query = AlarmQuery {
        after: query::number(&request, "after")?,
        before: query::number(&request, "before")?,
        unread: query::flag(&request, "unread")?,
        limit: query::limit(&request, PAGE)?,
    };
    let page = services.store.inbox(user, query).await?;
    let locale = services.config.locale;
    let results = page.alarms.iter().map(|row| AlarmBody::row(&row.alarm, row.read, locale)).collect();
    Ok(HttpResponse::Ok().json(Inbox { results, unread: page.unread, last_id: page.last_id }))
}

/// How many are unread, and the newest id.
pub(super) async fn unread(request: HttpRequest, services: web::Data<Services>) -> Result<HttpResponse, ApiError> {
    let user = services.user(&request).await?.user.id;
    let (unread, last_id) = services.store.unread(user).await?;
    Ok(HttpResponse::Ok().json(Unread { unread, last_id }))
}
