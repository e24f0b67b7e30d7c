//! `GET /asyncapi.json`: the WebSockets as an AsyncAPI 3.0 document.
//!
//! The frames come from the types of `protocol`: each variant of `RoomFrame` and `ServerFrame` becomes a message. Here
//! stand the sockets, which frames go over them, and an example of each.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};
use utoipa::OpenApi;

use super::{Data, Response, document::Document, problems};
use crate::protocol::{AlarmBody, AlarmClientFrame, Close, RoomClientFrame, RoomFrame, ServerFrame};

/// The types of all frames.
#[derive(OpenApi)]
#[openapi(components(schemas(AlarmBody, AlarmClientFrame, RoomClientFrame, RoomFrame, ServerFrame)))]
struct Frames;

static DOCUMENT: LazyLock<Document> = LazyLock::new(|| Document::json(&document()));

/// The WebSockets, as an AsyncAPI document.
#[utoipa::path(
    get, path = "/asyncapi.json", operation_id = "asyncapi", tag = "service", security((), ("bearer" = [])),
    responses(
        (status = 200, description = "AsyncAPI 3.0", content_type = "application/json", body = serde_json::Value),
        (status = 304, description = "Not changed since the `ETag` of `If-None-Match`"),
        problems::Caller,
    ),
)]
pub(super) async fn show(request: actix_web::HttpRequest, services: Data) -> Response {
    services.anyone(&request).await?;
    Ok(DOCUMENT.response(&request))
}

/// A WebSocket, and the names of the frames that go over it.
struct Channel {
    name: &'static str,
    address: &'static str,
    description: &'static str,
    sends: &'static [&'static str],
    receives: &'static [&'static str],
}

const CHANNELS: [Channel; 3] = [
    Channel {
        name: "alarms",
        address: "/ws/alarms/",
        description: "The alarms of a user; `/ws/alram/` is the same. A token is needed. `hello` comes first, to clients \
                      that give `since` or the subprotocol `handsup.v1`.",
        sends: &["hello", "alram", "chat_alram", "unread", "auth", "pong", "alert"],
        receives: &["client_ack", "client_read", "client_auth", "client_ping"],
    },
    Channel {
        name: "auction",
        address: "/ws/auction/{id}/",
        description: "An auction room. A visitor without a token may watch. `alert` goes to the author of a refused frame \
                      alone.",
        sends: &["enter", "out", "bid", "message", "removed", "started", "ended", "extended", "watchers", "alert"],
        receives: &["client_bid", "client_line"],
    },
    Channel {
        name: "chat",
        address: "/ws/chat/{id}/",
        description: "The trade chat of seller and buyer. `goods_info` comes first. Refusals go to the alarm sockets of \
                      the author.",
        sends: &["goods_info", "message"],
        receives: &["client_message"],
    },
];

/// The whole document.
fn document() -> Value {
    // utoipa's document is plain data with fixed keys, on which serde_json can't fail.
    let frames = serde_json::to_value(Frames::openapi()).unwrap_or_default();
    let mut schemas = frames["components"]["schemas"].as_object().cloned().unwrap_or_default();
    split_frames(&mut schemas);
    let messages: Map<String, Value> = CHANNELS
        .iter()
        .flat_map(|channel| channel.sends.iter().chain(channel.receives))
        .map(|name| message(name))
        .collect();
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Hands-Up alarms",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Frames are JSON objects in text frames. Ignore a `response_type` that you do not know. Refused \
                            handshakes are HTTP: `/openapi.json`.",
        },
        "defaultContentType": "application/json",
        "servers": {"this": {
            "host": "{host}", "protocol": "ws", "variables": {"host": {"default": "127.0.0.1:8000"}},
            "security": security(),
        }},
        "channels": CHANNELS.iter().map(|it| (it.name.to_owned(), channel(it))).collect::<Map<_, _>>(),
        "operations": CHANNELS.iter().flat_map(operations).collect::<Map<_, _>>(),
        "components": {"schemas": schemas, "messages": messages},
        // The server begins these closes; a client reconnects after all but some.
        "x-close-codes": Close::ALL.map(|close| {
            json!({"code": close.code(), "reason": close.reason(), "reconnect": close.may_reconnect()})
        }),
    })
}

/// Makes each variant of the frames' enums a schema of its own.
fn split_frames(schemas: &mut Map<String, Value>) {
    for (frames, tag, prefix) in [
        ("RoomFrame", "response_type", ""),
        ("ServerFrame", "response_type", ""),
        ("AlarmClientFrame", "type", "client_"),
    ] {
        let Some(Value::Array(variants)) = schemas.remove(frames).map(|mut frames| frames["oneOf"].take()) else {
            continue;
        };
        for variant in variants {
            if let Some(name) = variant["properties"][tag]["enum"][0].as_str() {
                schemas.insert(format!("{prefix}{name}"), variant);
            }
        }
    }
    let of_room = |fields: Value, needed: Value| json!({"allOf": [{"$ref": "#/components/schemas/RoomClientFrame"}, {"properties": fields, "required": needed}]});
    let price = json!({"oneOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": "^[0-9]+$"}]});
    let text = |max: u32| json!({"type": "string", "minLength": 1, "maxLength": max});
    let bid = of_room(json!({"is_money": {"const": true}, "message": price}), json!(["is_money", "message"]));
    let line = of_room(json!({"is_money": {"const": false}, "message": text(100)}), json!(["is_money", "message"]));
    schemas.insert("client_bid".to_owned(), bid);
    schemas.insert("client_line".to_owned(), line);
    schemas.insert("client_message".to_owned(), of_room(json!({"message": text(500)}), json!(["message"])));
    let alarm = |kind: &str| json!({"allOf": [{"$ref": "#/components/schemas/Alarm"}, {"properties": {"response_type": {"const": kind}}}]});
    schemas.insert("alram".to_owned(), alarm("alram"));
    schemas.insert("chat_alram".to_owned(), alarm("chat_alram"));
}

fn message(name: &str) -> (String, Value) {
    let message = json!({
        "name": name,
        "payload": {"$ref": format!("#/components/schemas/{name}")},
        "examples": [{"payload": example(name)}],
    });
    (name.to_owned(), message)
}

fn channel(channel: &Channel) -> Value {
    let messages = channel.sends.iter().chain(channel.receives);
    let messages: Map<String, Value> =
        messages.map(|name| ((*name).to_owned(), json!({"$ref": format!("#/components/messages/{name}")}))).collect();
    let mut query = json!({"token": {"type": "string", "description": "A token, if no header carries it"}});
    let mut described = json!({
        "address": channel.address,
        "description": channel.description,
        "messages": messages,
        "servers": [{"$ref": "#/servers/this"}],
    });
    if channel.address.contains("{id}") {
        described["parameters"] = json!({"id": {"description": "The id of the goods"}});
    } else {
        query["since"] =
            json!({"type": "integer", "minimum": 0, "description": "The alarms after this id, then new ones"});
    }
    let headers = json!({"Sec-WebSocket-Protocol": {"type": "string", "description": "`handsup.v1, bearer.<token>`"}});
    described["bindings"] = json!({"ws": {
        "method": "GET",
        "query": {"type": "object", "properties": query},
        "headers": {"type": "object", "properties": headers},
    }});
    described
}

/// What the server does on a socket.
fn operations(channel: &Channel) -> [(String, Value); 2] {
    let name = channel.name;
    let operation = |action: &str, messages: &[&str]| {
        let references = messages.iter().map(|it| json!({"$ref": format!("#/channels/{name}/messages/{it}")}));
        let operation = json!({
            "action": action,
            "channel": {"$ref": format!("#/channels/{name}")},
            "messages": references.collect::<Vec<_>>(),
        });
        (format!("{action}_{name}"), operation)
    };
    [operation("send", channel.sends), operation("receive", channel.receives)]
}

fn security() -> Value {
    json!([
        {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
        {"type": "httpApiKey", "in": "query", "name": "token"},
        {
            "type": "httpApiKey", "in": "header", "name": "Sec-WebSocket-Protocol",
            "description": "`handsup.v1, bearer.<token>`, for browsers",
        },
    ])
}

/// A frame as it may be, by the name of its message; null for an unknown name, which a test refuses.
fn example(name: &str) -> Value {
    const AT: &str = "2026-11-22T08:41:00.000Z";
    match name {
        "hello" => json!({
            "response_type": name, "user_id": 2, "last_id": 5, "unread": 1, "server_time": AT, "heartbeat_s": 20,
        }),
        "unread" => json!({"response_type": name, "unread": 0, "last_id": 5}),
        "pong" => json!({"response_type": name, "server_time": AT}),
        "auth" => json!({"response_type": name, "exp": 1_795_340_400}),
        "alram" => json!({
            "response_type": name, "id": 2, "kind": "outbid", "message": "다른 핸더가 입찰했어요!", "goods_id": 1,
            "goods_title": "camera", "created_at": AT, "high_price": 2000, "ends_at": AT,
        }),
        "chat_alram" => json!({
            "response_type": name, "id": 7, "kind": "chat", "message": "where do we meet?", "goods_id": 1,
            "goods_title": "camera", "created_at": AT, "sender": 3, "sender_name": "joon",
        }),
        "enter" => json!({
            "response_type": name, "sender": 2, "sender_name": "mina", "participants_count": 1, "user_id": 2,
        }),
        "out" => json!({"response_type": name, "participants_count": 1, "user_id": 3}),
        "bid" => json!({
            "response_type": name, "sender": 2, "sender_name": "mina", "sender_image": "/media/users/mina.png",
            "goods_id": 2, "high_price": 700, "seq": 1, "bid_id": 3, "ends_at": AT, "server_time": AT,
        }),
        "message" => json!({
            "response_type": name, "id": 1, "message": "hello", "sender": 3, "sender_name": "joon", "goods_id": 2,
            "time": "오후 05:40",
        }),
        "removed" => json!({"response_type": name, "id": 1, "server_time": AT}),
        "started" => json!({"response_type": name, "server_time": AT}),
        "ended" => json!({
            "response_type": name, "buyer_id": 3, "buyer_name": "joon", "high_price": 900, "reason": "sold",
            "server_time": AT,
        }),
        "extended" => json!({"response_type": name, "ends_at": AT, "server_time": AT}),
        "watchers" => json!({"response_type": name, "watchers": 42, "server_time": AT}),
        "goods_info" => json!({
            "response_type": name, "image": "/media/goods/camera.png", "high_price": 2000, "title": "camera", "goods_id": 1,
        }),
        "alert" => json!({
            "response_type": name, "message": "현재 입찰가보다 낮거나 종료된 경매입니다.", "code": "bid_too_low",
            "high_price": 700,
        }),
        "client_ack" => json!({"type": "ack", "up_to": 5}),
        "client_read" => json!({"type": "read", "up_to": 5}),
        "client_auth" => json!({"type": "auth", "token": "eyJhbGciOi…"}),
        "client_ping" => json!({"type": "ping"}),
        "client_bid" => json!({"is_money": true, "goods_id": "2", "user_id": 2, "message": 700}),
        "client_line" => json!({"is_money": false, "message": "hello"}),
        "client_message" => json!({"message": "where do we meet?"}),
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_frame_of_the_protocol_goes_over_a_socket_and_has_an_example() {
        let document = document();
        let frames = serde_json::to_value(Frames::openapi()).unwrap();
        let variants = |name: &str| frames["components"]["schemas"][name]["oneOf"].as_array().unwrap().clone();
        let names = |name: &str, tag: &str, prefix: &str| -> BTreeSet<String> {
            variants(name)
                .iter()
                .map(|it| format!("{prefix}{}", it["properties"][tag]["enum"][0].as_str().unwrap()))
                .collect()
        };
        let mut all = names("RoomFrame", "response_type", "");
        all.extend(names("ServerFrame", "response_type", ""));
        all.extend(names("AlarmClientFrame", "type", "client_"));
        all.extend(["alram", "chat_alram", "client_bid", "client_line", "client_message"].map(str::to_owned));
        let messages = document["components"]["messages"].as_object().unwrap();
        let documented: BTreeSet<String> = messages.keys().cloned().collect();
        assert_eq!(documented, all, "name each frame in `CHANNELS`, and give an example");
        for (name, message) in messages {
            assert!(document["components"]["schemas"][name].is_object(), "{name}");
            assert!(!message["examples"][0]["payload"].is_null(), "{name}: an example");
        }
    }

    #[test]
    fn closes_have_their_codes_and_say_who_comes_back() {
        let document = document();
        let closes = document["x-close-codes"].as_array().unwrap();
        let stays_away =
            closes.iter().filter(|close| close["reconnect"] == false).map(|close| close["code"].as_u64().unwrap());
        assert_eq!(stays_away.collect::<Vec<_>>(), [4401, 4404, 4409]);
        assert!(closes.iter().all(|close| close["reason"].as_str().is_some_and(|reason| !reason.is_empty())));
    }
}
