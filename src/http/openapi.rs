//! `GET /openapi.json`: the HTTP API as an OpenAPI 3.1 document.
//!
//! It is made from the code: the schemas are derived on the structs that are parsed and sent, and each operation is
//! described by the `#[utoipa::path]` above its handler, listed in [`Operations`]. A test holds it against the routes of
//! the app (`CONTRIBUTING.md#change`).

use std::{collections::BTreeMap, sync::LazyLock};

use serde_json::{Map, Value, json};
use utoipa::OpenApi;

use super::{
    Data, Response, admin_alarms, alarms, audit, bids, dev, document::Document, export, external_goods, goods,
    goods_lists, health, lines, media, problems, socket, trades, users,
};
use crate::{
    domain::{EventId, LineId},
    protocol::{AlarmBody, Problem},
};

/// All operations. A new handler stands here and has a `#[utoipa::path]`.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Hands-Up alarms",
        description = "Auctions and alarms. Every path answers with and without its last slash, and `GET` calls answer \
            `HEAD` too, except likes, trade messages and streams. Unknown fields of a body are ignored.",
    ),
    servers((url = "/", description = "This server")),
    paths(
        goods_lists::list,
        goods_lists::recommend,
        goods_lists::of_user,
        goods::create,
        goods::show,
        goods::delete,
        goods::like,
        goods::unlike,
        goods::toggle_like,
        lines::list,
        bids::list,
        bids::place,
        alarms::list,
        alarms::unread,
        alarms::read,
        alarms::acknowledge,
        alarms::preferences,
        alarms::set_preferences,
        socket::stream,
        trades::list,
        trades::show,
        media::default_picture,
        media::elsewhere,
        media::file,
        socket::open,
        socket::auction,
        socket::trade,
        health::live,
        health::ready,
        health::admin,
        super::metrics::show,
        external_goods::put,
        goods::cancel,
        audit::list,
        admin_alarms::raise,
        admin_alarms::deliveries,
        lines::remove,
        users::list,
        users::show,
        users::change,
        users::erase,
        export::export,
        dev::token,
        super::asyncapi::show,
        super::client_library::library,
        super::client_library::types,
        super::docs::page,
        super::docs::style,
        super::docs::script,
        super::pages::home,
        super::pages::admin,
        super::pages::file,
        show,
    ),
    // Those that no body or answer refers to.
    components(schemas(Problem, AlarmBody, goods_lists::PhaseQuery, goods_lists::UserGoodsQuery, EventId, LineId)),
    tags(
        (name = "goods", description = "Goods and their auctions"),
        (name = "bids", description = "Bids"),
        (name = "alarms", description = "The inbox of a user"),
        (name = "trades", description = "Seller and buyer after an auction"),
        (name = "sockets", description = "WebSockets: their handshakes. `/asyncapi.json` describes the frames"),
        (name = "admin", description = "For the marketplace's backend, with an admin's token"),
        (name = "service", description = "Health, pictures and descriptions of the API"),
    ),
)]
struct Operations;

static DOCUMENT: LazyLock<Document> = LazyLock::new(|| Document::json(&document()));

/// The HTTP API, as this document.
#[utoipa::path(
    get, path = "/openapi.json", operation_id = "openapi", tag = "service", security((), ("bearer" = [])),
    responses(
        (status = 200, description = "OpenAPI 3.1", content_type = "application/json", body = serde_json::Value),
        (status = 304, description = "Not changed since the `ETag` of `If-None-Match`"),
        problems::Caller,
    ),
)]
pub(super) async fn show(request: actix_web::HttpRequest, services: Data) -> Response {
    services.anyone(&request).await?;
    Ok(DOCUMENT.response(&request))
}

/// The whole document.
fn document() -> Value {
    // utoipa's document is plain data with fixed keys, on which serde_json can't fail.
    let mut document = serde_json::to_value(Operations::openapi()).unwrap_or_default();
    document["components"]["securitySchemes"] = security_schemes();
    let Some(paths) = document["paths"].as_object_mut() else { return document };
    for operation in paths.values_mut().filter_map(Value::as_object_mut).flat_map(Map::values_mut) {
        // A body that may be left out, which utoipa takes for one that may be null.
        if let Some(schema) = operation.pointer_mut("/requestBody/content/application~1json/schema")
            && let Some(reference) =
                schema.pointer("/oneOf/1").filter(|_| schema["oneOf"][0] == json!({"type": "null"}))
        {
            *schema = reference.clone();
        }
        if let Some(responses) = operation.get_mut("responses") {
            *responses = with_problems(responses.take());
        }
    }
    // Two names of one endpoint.
    if let Some(mut alias) = paths.get("/ws/alarms/").cloned() {
        alias["get"]["operationId"] = json!("open_alram");
        alias["get"]["deprecated"] = json!(true);
        paths.insert("/ws/alram/".to_owned(), alias);
    }
    document
}

fn security_schemes() -> Value {
    json!({
        "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
        "query": {
            "type": "apiKey", "in": "query", "name": "token",
            "description": "The token in the query, for sockets and streams alone",
        },
        "subprotocol": {
            "type": "apiKey", "in": "header", "name": "Sec-WebSocket-Protocol",
            "description": "`handsup.v1, bearer.<token>`, for WebSockets of browsers",
        },
    })
}

/// The responses, with the problems of each status joined into one.
fn with_problems(responses: Value) -> Value {
    let (mut joined, mut problems) = (Map::new(), BTreeMap::<String, Vec<(String, String)>>::new());
    let general = [("408 request_timeout", "Request timeout"), ("431 headers_too_large", "Headers too large")];
    for (key, title) in general {
        add_problem(&mut problems, key, title);
    }
    let Value::Object(responses) = responses else { return responses };
    for (key, response) in responses {
        match response["description"].as_str() {
            Some(title) if key.contains(' ') => add_problem(&mut problems, &key, title),
            _ => drop(joined.insert(key, response)),
        }
    }
    for (status, codes) in problems {
        let response = problem_response(&status, &codes);
        joined.insert(status, response);
    }
    Value::Object(joined)
}

fn add_problem(problems: &mut BTreeMap<String, Vec<(String, String)>>, key: &str, title: &str) {
    if let Some((status, code)) = key.split_once(' ') {
        problems.entry(status.to_owned()).or_default().push((code.to_owned(), title.to_owned()));
    }
}

fn problem_response(status: &str, codes: &[(String, String)]) -> Value {
    let names: Vec<&str> = codes.iter().map(|(code, _)| code.as_str()).collect();
    let number: u16 = status.parse().unwrap_or_default();
    let examples: Map<String, Value> =
        codes.iter().map(|(code, title)| (code.clone(), json!({"value": example(number, code, title)}))).collect();
    let mut response = json!({
        "description": names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
        "content": {"application/problem+json": {
            "schema": {"allOf": [
                {"$ref": "#/components/schemas/Problem"},
                {"properties": {"status": {"const": number}, "code": {"enum": names}}},
            ]},
            "examples": examples,
        }},
    });
    let header =
        |schema: Value, description: &str| json!({"required": true, "schema": schema, "description": description});
    let headers = match number {
        401 => json!({"WWW-Authenticate": header(json!({"const": "Bearer"}), "How to prove who sends")}),
        415 => json!({"Accept-Encoding": header(json!({"const": "identity"}), "Bodies are not compressed")}),
        429 | 503 => json!({"Retry-After": header(json!({"type": "integer", "minimum": 1}), "Seconds to wait")}),
        _ => return response,
    };
    response["headers"] = headers;
    response
}

/// A problem with this code, with the fields that only this code has.
fn example(status: u16, code: &str, title: &str) -> Value {
    let mut problem = json!({
        "type": "about:blank", "title": title, "status": status, "detail": "what is wrong, for people", "code": code,
    });
    match code {
        "invalid_value" => problem["field"] = json!("price"),
        "bid_too_low" => {
            problem["high_price"] = json!(12000);
            problem["minimum"] = json!(12100);
        }
        _ => {}
    }
    problem
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use actix_web::{App, introspection::IntrospectionTree, test as actix_test, web};
    use utoipa::PartialSchema;

    use super::*;
    use crate::protocol::Code;

    /// The method and path of each route of the app. HEAD belongs to GET.
    async fn routes() -> BTreeSet<String> {
        let app = actix_test::init_service(App::new().configure(crate::http::routes)).await;
        let request = actix_test::TestRequest::get().uri("/no/such/path").to_request();
        let answer = actix_test::call_service(&app, request).await;
        let tree = answer.request().app_data::<web::Data<IntrospectionTree>>().expect("what the app is made of");
        let Value::Array(items) = serde_json::from_str(&tree.report_as_json()).unwrap() else { panic!("a list") };
        let mut routes = BTreeSet::new();
        for item in items {
            let guards = item["guards_detail"].as_array().into_iter().flatten();
            let methods = guards.flat_map(|guard| guard["details"].as_array().cloned().unwrap_or_default());
            let methods = methods.flat_map(|detail| detail["methods"].as_array().cloned().unwrap_or_default());
            for method in methods.chain(item["methods"].as_array().cloned().unwrap_or_default()) {
                let method = method.as_str().unwrap();
                if method != "HEAD" {
                    routes.insert(route(method, item["full_path"].as_str().unwrap()));
                }
            }
        }
        routes
    }

    /// `GET /media/{path}`, whatever the pattern of a part and without the last slash.
    fn route(method: &str, path: &str) -> String {
        let parts = path.trim_end_matches('/').split('/').map(|part| match part.split_once(':') {
            Some((name, _)) => format!("{name}}}"),
            None => part.to_owned(),
        });
        format!("{} {}", method.to_uppercase(), parts.collect::<Vec<_>>().join("/"))
    }

    #[actix_web::test]
    async fn the_document_has_every_route_of_the_app_and_no_other() {
        let routes = routes().await;
        assert!(routes.len() > 30, "{routes:?}");
        let document = document();
        let paths = document["paths"].as_object().unwrap();
        let operations =
            paths.iter().flat_map(|(path, item)| item.as_object().unwrap().keys().map(move |m| route(m, path)));
        let documented: BTreeSet<String> = operations.collect();
        let missing: Vec<_> = routes.difference(&documented).collect();
        assert!(
            missing.is_empty(),
            "/openapi.json lacks {missing:#?}: write a `#[utoipa::path]` above the handler, derive `ToSchema` on what it \
             parses and sends, and list the handler in `paths(…)` of src/http/openapi.rs (CONTRIBUTING.md, \"Change\")"
        );
        let gone: Vec<_> = documented.difference(&routes).collect();
        assert!(
            gone.is_empty(),
            "/openapi.json has paths that the app has not: {gone:#?}; see `path` of `#[utoipa::path]`"
        );
    }

    #[test]
    fn every_operation_says_who_may_call_it_and_what_it_answers() {
        let document = document();
        let mut ids = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let name = format!("{method} {path}");
                assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{name}: operation_id");
                assert!(operation["security"].is_array(), "{name}: security");
                assert!(operation["summary"].is_string(), "{name}: a doc comment");
                assert_eq!(operation["tags"].as_array().map(Vec::len), Some(1), "{name}: tag");
                let responses = operation["responses"].as_object().unwrap();
                assert!(responses.keys().any(|status| status.as_str() < "400"), "{name}: how it succeeds");
                let asks_for_token = operation["security"] != json!([{}]);
                assert_eq!(
                    responses.contains_key("401"),
                    asks_for_token,
                    "{name}: problems::Caller, Admin or Handshake"
                );
                if operation["requestBody"].is_object() {
                    let needed = ["400", "413", "415", "422"];
                    assert!(needed.iter().all(|status| responses.contains_key(*status)), "{name}: problems::Body");
                }
                for status in responses.keys() {
                    assert!(status.parse::<u16>().is_ok_and(|status| (100..600).contains(&status)), "{name}: {status}");
                }
            }
        }
    }

    /// The targets of all `$ref`.
    fn references(value: &Value) -> Vec<String> {
        match value {
            Value::Object(fields) => {
                let own = fields.get("$ref").and_then(Value::as_str).map(str::to_owned);
                own.into_iter().chain(fields.values().flat_map(references)).collect()
            }
            Value::Array(items) => items.iter().flat_map(references).collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn every_schema_that_is_referred_to_is_there() {
        let document = document();
        for reference in references(&document) {
            let pointer = reference.strip_prefix('#').expect("a reference within the document");
            assert!(document.pointer(pointer).is_some(), "{reference}: name its type in `components(schemas(…))`");
        }
    }

    #[test]
    fn every_code_of_a_problem_is_documented_by_its_name_on_the_wire() {
        let schema = serde_json::to_value(Code::schema()).unwrap();
        let names: Vec<&str> = schema["enum"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        let text = document().to_string();
        // No handler answers with this one: no route fits the request.
        let is_documented =
            |name: &&&str| text.contains(&format!("\"{name}\":{{\"value\"")) || **name == "method_not_allowed";
        let documented: Vec<_> = names.iter().filter(is_documented).collect();
        assert_eq!(documented.len(), names.len(), "a code that no operation of /openapi.json names: {names:?}");
    }
}
