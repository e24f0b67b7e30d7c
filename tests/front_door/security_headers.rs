//! Headers for browsers: on every response, also on those that refuse.

use awc::http::Method;
use serde_json::json;

use crate::support::{Raw, TestNode, goods_body};

const ON_ALL: [(&str, &str); 3] =
    [("x-content-type-options", "nosniff"), ("x-frame-options", "DENY"), ("referrer-policy", "same-origin")];
/// Policies of data, of what a page loads, and of pictures.
const DATA: &str = "default-src 'none'; frame-ancestors 'none'";
const PAGE: &str = "default-src 'self'; img-src 'self' https: data:";
const PICTURE: &str = "default-src 'none'; style-src 'unsafe-inline'; sandbox";

#[actix_web::test]
async fn every_response_has_them_and_one_policy() {
    let node = TestNode::with(|settings| settings.server.allowed_origins = vec!["https://market.example".into()]);
    let goods = node.live_goods(1).await;
    let (user, admin, visitor) = (node.user(2), node.admin(), node.visitor());
    let preflight = [("Origin", "https://market.example"), ("Access-Control-Request-Method", "POST")];
    let evil = [("Origin", "https://evil.example"), ("Access-Control-Request-Method", "POST")];
    let page = format!("/goods/{goods}/");
    let known = visitor.get("/docs").await;
    let tag = [("If-None-Match", known.headers.get("etag").unwrap().to_str().unwrap())];
    for (status, policy, answer) in [
        (200, DATA, visitor.get("/goods/").await),
        (200, DATA, visitor.send(Method::HEAD, &page, None).await),
        (200, PAGE, visitor.get("/docs").await),
        (200, PAGE, visitor.get("/docs/docs.js").await),
        // Tabs share it as a worker, which is bound by the policy that it comes with.
        (200, PAGE, visitor.get("/client/handsup.js").await),
        (200, PICTURE, visitor.send(Method::HEAD, "/media/default.jpeg", None).await),
        (200, DATA, visitor.get("/metrics").await),
        (200, DATA, visitor.send_with(Method::OPTIONS, "/goods/", None, &preflight).await),
        (201, DATA, user.post("/goods/", &goods_body(&json!({"starts_at": node.now()}))).await),
        (204, DATA, user.put(&format!("/goods/{goods}/like"), &json!({})).await),
        (200, DATA, admin.get("/admin/health").await),
        // A cache takes the headers of a 304 for those of the page that it has.
        (304, PAGE, visitor.send_with(Method::GET, "/docs", None, &tag).await),
        (400, DATA, user.send(Method::POST, "/alarms/read", Some(b"{".to_vec())).await),
        (401, DATA, visitor.get("/alarms").await),
        (403, DATA, user.get("/admin/health").await),
        (403, DATA, visitor.send_with(Method::OPTIONS, "/goods/", None, &evil).await),
        (404, DATA, visitor.get("/nothing/here").await),
        (405, DATA, visitor.delete("/goods/").await),
    ] {
        assert_eq!(answer.status, status, "{}", answer.text);
        for (name, value) in ON_ALL.into_iter().chain([("content-security-policy", policy)]) {
            let found: Vec<_> = answer.headers.get_all(name).collect();
            assert_eq!(found, [value], "{name} of a {status}: {}", answer.text);
        }
    }
}

#[actix_web::test]
async fn so_have_handshakes_streams_and_what_is_no_http() {
    let node = TestNode::start();
    let bearer = format!("Bearer {}", node.user(2).token());
    let handshake = |path: &str| Raw::connect(node.address()).handshake(path, &[("Authorization", &bearer)]);
    let raw = |request: String| {
        let mut raw = Raw::connect(node.address());
        raw.write(request.as_bytes());
        raw.answer().unwrap()
    };
    let stream = format!("GET /alarms/stream HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer}\r\n\r\n");
    for (status, answer) in [
        (101, handshake("/ws/alarms/")),
        (404, handshake("/ws/auction/0/")),
        (200, raw(stream)),
        (400, raw("GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n".to_owned())),
    ] {
        assert_eq!(answer.status, status);
        for (name, value) in ON_ALL.into_iter().chain([("content-security-policy", DATA)]) {
            let line = format!("\r\n{name}: {value}\r\n");
            assert!(answer.head.to_lowercase().contains(&line.to_lowercase()), "{name} of a {status}: {}", answer.head);
        }
    }
}
