//! The marketplace's pages have another origin than the API: what a browser asks before it lets them call, and what it
//! lets them read.

use awc::http::Method;

use crate::support::{Answer, Client, TestNode, goods_body};

const MARKET: &str = "https://market.example";

fn node() -> TestNode {
    TestNode::with(|settings| settings.server.allowed_origins = vec![MARKET.into(), "https://admin.example".into()])
}

fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.headers.get(name).map(|value| value.to_str().unwrap())
}

/// Sends what a browser asks before such a request from a page of this origin.
async fn preflight(client: &Client, path: &str, origin: &str, method: &str, headers: &str) -> Answer {
    let mut asked = vec![("Origin", origin), ("Access-Control-Request-Method", method)];
    if !headers.is_empty() {
        asked.push(("Access-Control-Request-Headers", headers));
    }
    client.send_with(Method::OPTIONS, path, None, &asked).await
}

fn lists(answer: &Answer, name: &str, wanted: &str) -> bool {
    let listed = header(answer, name).unwrap_or_default().to_ascii_lowercase();
    listed.split(',').any(|one| one.trim() == wanted.to_ascii_lowercase())
}

#[actix_web::test]
async fn a_page_of_the_marketplace_may_call_what_the_existing_client_calls() {
    let node = node();
    for (path, method) in [
        ("/goods/?page=1", "GET"),
        ("/goods/like/1/", "GET"),
        ("/goods/", "POST"),
        ("/goods/1", "DELETE"),
        ("/goods/1/like", "PUT"),
        ("/chat/goods/1/", "GET"),
    ] {
        let answer = preflight(&node.visitor(), path, MARKET, method, "authorization,content-type").await;
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text);
        assert_eq!(header(&answer, "access-control-allow-origin"), Some(MARKET), "{method} {path}");
        assert!(lists(&answer, "access-control-allow-methods", method), "{method} {path}: {:?}", answer.headers);
        for asked in ["authorization", "content-type"] {
            assert!(lists(&answer, "access-control-allow-headers", asked), "{asked}: {:?}", answer.headers);
        }
    }
    let keyed = preflight(&node.visitor(), "/goods/1/bids", MARKET, "POST", "idempotency-key").await;
    assert_eq!(keyed.status, 200, "{}", keyed.text);
}

/// Refusals too: the endless scroll stops on a 404 that it can read.
#[actix_web::test]
async fn a_page_of_the_marketplace_can_read_every_answer() {
    let node = node();
    let goods = node.live_goods(1).await;
    let toggle = format!("/goods/like/{goods}/");
    let from = [("Origin", MARKET)];
    for (client, path, status) in [
        (node.visitor(), "/goods/?page=1".to_owned(), 200),
        (node.visitor(), "/goods/?page=99".to_owned(), 404),
        (node.visitor(), "/chat/".to_owned(), 401),
        (node.visitor(), "/goods/?status=maybe".to_owned(), 422),
        (node.user(2), toggle, 200),
        (node.visitor(), "/no/such/path".to_owned(), 404),
    ] {
        let answer = client.send_with(Method::GET, &path, None, &from).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text);
        assert_eq!(header(&answer, "access-control-allow-origin"), Some(MARKET), "{path}");
        assert!(lists(&answer, "vary", "origin"), "{path}: another page must not get this one's: {:?}", answer.headers);
        for read in ["retry-after", "idempotent-replayed", "x-request-id"] {
            assert!(lists(&answer, "access-control-expose-headers", read), "{path}: {:?}", answer.headers);
        }
    }
    let body = goods_body(&serde_json::json!({"starts_at": node.now().plus_ms(60_000)})).to_string();
    let made = node.user(1).send_with(Method::POST, "/goods/", Some(body.into_bytes()), &from).await;
    assert_eq!((made.status, header(&made, "access-control-allow-origin")), (201, Some(MARKET)));
    let path = format!("/goods/{}", made.body["id"]);
    let gone = node.user(1).send_with(Method::DELETE, &path, None, &from).await;
    assert_eq!((gone.status, header(&gone, "access-control-allow-origin")), (204, Some(MARKET)));
}

#[actix_web::test]
async fn pages_of_other_origins_may_not_call_and_read_nothing() {
    let node = node();
    for other in ["https://evil.example", "http://market.example", "https://market.example.evil.example", "null"] {
        let answer = preflight(&node.visitor(), "/goods/", other, "GET", "authorization").await;
        assert_eq!((answer.status, answer.code()), (403, "forbidden"), "{other}");
        assert_eq!(header(&answer, "content-type"), Some("application/problem+json"), "{other}");
        assert_eq!(header(&answer, "access-control-allow-origin"), None, "{other}");
        let got = node.visitor().send_with(Method::GET, "/goods/", None, &[("Origin", other)]).await;
        assert_eq!((got.status, header(&got, "access-control-allow-origin")), (200, None), "{other}");
    }
    let trick = preflight(&node.visitor(), "/goods/", MARKET, "PATCH", "").await;
    assert_eq!((trick.status, trick.code()), (403, "forbidden"));
}

#[actix_web::test]
async fn without_allowed_origins_no_other_page_may_call() {
    let node = TestNode::start();
    let answer = preflight(&node.visitor(), "/goods/", MARKET, "GET", "authorization").await;
    assert_eq!((answer.status, answer.code()), (403, "forbidden"));
    assert_eq!(header(&answer, "access-control-allow-origin"), None);
    let got = node.visitor().send_with(Method::GET, "/goods/", None, &[("Origin", MARKET)]).await;
    assert_eq!((got.status, header(&got, "access-control-allow-origin")), (200, None));
}
