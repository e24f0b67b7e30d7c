//! `PUT /admin/goods/by-external-id/{external_id}`: the marketplace's backend sets up goods by an id of its own.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::LOCATION,
    web::{Path, Payload},
};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    Data, Response, WRITE_TIMEOUT,
    bids::goods_not_found,
    body,
    goods::{self, DetailsBody},
    json, problems,
    request_log::id_of,
    responses::GoodsPage,
};
use crate::{
    domain::{ExternalId, UpdateRefusal, UserId},
    protocol::{Code, Problem},
    store::writes::{Audited, GoodsPut, PutGoods},
};

#[derive(Deserialize, ToSchema)]
#[schema(
    description = "What is left out stays as it is. New goods need `seller_id`, `title`, `start_price` and a start. Other \
                        fields are ignored"
)]
struct ExternalGoodsBody {
    /// The service need not know them yet.
    #[schema(value_type = Option<UserId>)]
    seller_id: Option<Value>,
    #[schema(value_type = Option<String>, min_length = 1, max_length = 256)]
    title: Option<Value>,
    #[schema(value_type = Option<i64>, minimum = 1)]
    start_price: Option<Value>,
    #[serde(flatten)]
    details: DetailsBody,
}

/// Creates goods, or changes them: everything before their start, while the auction is live `title`, `content`, `images`
/// and `category`, afterwards nothing. What stays as it is is never refused.
#[utoipa::path(
    put, path = "/admin/goods/by-external-id/{external_id}", operation_id = "put_goods", tag = "admin",
    security(("bearer" = [])),
    params(("external_id" = String, Path, min_length = 1, max_length = 128, description = "The backend's own id")),
    request_body(content = ExternalGoodsBody, example = json!({
        "seller_id": 1, "title": "camera", "start_price": 1000, "starts_at": "2027-11-22T08:30:00Z",
        "images": ["https://img.example/camera.jpeg"],
    })),
    responses(
        (status = 201, description = "The new goods", body = GoodsPage, headers(
            ("Location" = String, description = "The path of the goods"),
        )),
        (status = 200, description = "The goods as they are now", body = GoodsPage),
        problems::Admin, problems::Body, problems::NotFound, problems::AuctionStarted, problems::AuctionEnded,
    ),
)]
pub(super) async fn put(request: HttpRequest, external_id: Path<String>, payload: Payload, services: Data) -> Response {
    let admin = services.admin(&request).await?.user.id;
    let body: ExternalGoodsBody = body::object(&request, payload, &services).await?;
    let external_id = ExternalId::parse(&external_id)
        .ok_or_else(|| Problem::invalid_value("external_id", "1 to 128 characters, no control characters"))?;
    let put = PutGoods {
        external_id,
        seller: body.seller_id.map(seller).transpose()?,
        draft: goods::draft(body.title, body.start_price, body.details, services.config.max_price)?,
        rules: services.config.draft,
    };
    let (id, response) = match services.ledger.write(Audited { admin, write: put }, WRITE_TIMEOUT).await? {
        GoodsPut::Created(id) => {
            log::info!(request = id_of(&request), admin = admin.get(), goods = id.get(); "an admin has created goods");
            let mut created = HttpResponse::Created();
            created.insert_header((LOCATION, format!("/goods/{id}/")));
            (id, created)
        }
        GoodsPut::Changed(id, fields) => {
            if !fields.is_empty() {
                let (admin, goods, changed) = (admin.get(), id.get(), fields.join(", "));
                log::info!(request = id_of(&request), admin, goods, changed; "an admin has changed goods");
            }
            (id, HttpResponse::Ok())
        }
        GoodsPut::Invalid(error) => return Err(Problem::from(error).into()),
        GoodsPut::Refused(UpdateRefusal::Started) => {
            let detail = "the auction has started: only title, content, images and category may change";
            return Err(Problem::new(Code::AuctionStarted, detail).into());
        }
        GoodsPut::Refused(UpdateRefusal::Ended) => {
            return Err(Problem::new(Code::AuctionEnded, "the auction has ended").into());
        }
    };
    let page = goods::page(&services, id, Some(admin)).await?.ok_or_else(goods_not_found)?;
    Ok(json::json(response, &page))
}

fn seller(value: Value) -> Result<UserId, Problem> {
    let id = body::integer("seller_id", &value)?;
    UserId::new(id).ok_or_else(|| Problem::invalid_value("seller_id", "a user's id, from 1"))
}
