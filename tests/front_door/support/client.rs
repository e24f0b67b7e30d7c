//! An HTTP client of one user or visitor.

use std::time::Duration;

use awc::http::{Method, header::HeaderMap};
use serde_json::{Value, json};

use super::{DEADLINE, SLOW_DEADLINE, Socket, addresses::Rotation};

/// How long a retrying client waits before the next attempt.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// One user, or a visitor, with their own connection pool.
pub struct Client {
    target: Target,
    token: Option<String>,
    http: awc::Client,
    retries: bool,
}

/// Where a client sends its requests.
enum Target {
    /// One node for everything.
    Node(String),
    /// The nodes of a service in turn.
    Service(Rotation),
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    /// The body as JSON, null if it is not JSON.
    pub body: Value,
    pub text: String,
}

impl Answer {
    /// The problem's code. Asserts that the answer is a well-formed problem of its status.
    pub fn code(&self) -> &str {
        assert_eq!(self.headers.get("content-type").unwrap(), "application/problem+json", "{}", self.text);
        assert_eq!(self.body["status"], self.status, "{}", self.text);
        for field in ["type", "title", "detail"] {
            assert!(self.body[field].is_string(), "{field} in {}", self.text);
        }
        self.body["code"].as_str().expect("a code")
    }

    /// Whether the failure is temporary and a repetition has no second effect.
    fn is_retryable(&self, method: &Method) -> bool {
        self.status == 503
            && self.code() == "unavailable"
            && (*method != Method::POST || !self.text.contains("may have been stored"))
    }
}

impl Client {
    pub fn new(base: String, token: Option<String>) -> Self {
        Self::with_target(Target::Node(base), token)
    }

    /// A client whose requests and sockets go to one node after the other.
    pub fn over_nodes(rotation: Rotation, token: Option<String>) -> Self {
        Self::with_target(Target::Service(rotation), token)
    }

    fn with_target(target: Target, token: Option<String>) -> Self {
        Self { target, token, http: awc::Client::builder().timeout(DEADLINE).finish(), retries: false }
    }

    fn for_request(&self) -> String {
        match &self.target {
            Target::Node(base) => base.clone(),
            Target::Service(rotation) => rotation.for_request(),
        }
    }

    fn for_socket(&self) -> String {
        match &self.target {
            Target::Node(base) => base.clone(),
            Target::Service(rotation) => rotation.for_socket(),
        }
    }

    /// The same client, which repeats a request that was answered with a 503 and stored nothing, as the contract
    /// recommends. For tests of what is stored, not of how fast: the disk under the tests may stall for seconds.
    pub fn retrying(self) -> Self {
        Self { retries: true, ..self }
    }

    pub fn token(&self) -> &str {
        self.token.as_deref().unwrap()
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, Some(body.to_string().into_bytes())).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PUT, path, Some(body.to_string().into_bytes())).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, None).await
    }

    /// Sends any bytes as a JSON body.
    pub async fn send(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> Answer {
        self.send_with(method, path, body, &[]).await
    }

    /// Sends a request with further headers.
    pub async fn send_with(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
        headers: &[(&str, &str)],
    ) -> Answer {
        let give_up = tokio::time::Instant::now() + SLOW_DEADLINE;
        loop {
            let answer = self.try_send_with(method.clone(), path, body.clone(), headers).await;
            let answer = answer.unwrap_or_else(|error| panic!("{path}: {error}"));
            if !(self.retries && answer.is_retryable(&method)) || tokio::time::Instant::now() > give_up {
                return answer;
            }
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
    }

    /// Sends to a server that may be down or go down while it answers.
    pub async fn try_send_with(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
        headers: &[(&str, &str)],
    ) -> Result<Answer, String> {
        let mut request = self.http.request(method, format!("{}{path}", self.for_request())).no_decompress();
        if let Some(token) = &self.token {
            request = request.insert_header(("Authorization", format!("Bearer {token}")));
        }
        for (name, value) in headers {
            request = request.insert_header((*name, *value));
        }
        let sent = match body {
            Some(body) => request.content_type("application/json").send_body(body).await,
            None => request.send().await,
        };
        let mut response = sent.map_err(|error| error.to_string())?;
        let body = response.body().limit(64 << 20).await.map_err(|error| error.to_string())?;
        let text = String::from_utf8(body.to_vec()).expect("a body in UTF-8");
        Ok(Answer {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: serde_json::from_str(&text).unwrap_or(Value::Null),
            text,
        })
    }

    pub async fn bid(&self, goods: i64, price: i64) -> Answer {
        self.post(&format!("/goods/{goods}/bids"), &json!({"price": price})).await
    }

    /// Bids at a server that may be down or go down while it answers.
    pub async fn try_bid(&self, goods: i64, price: i64) -> Result<Answer, String> {
        let body = json!({"price": price}).to_string().into_bytes();
        self.try_send_with(Method::POST, &format!("/goods/{goods}/bids"), Some(body), &[]).await
    }

    pub async fn like(&self, goods: i64) {
        let answer = self.send(Method::PUT, &format!("/goods/{goods}/like"), None).await;
        assert_eq!(answer.status, 204, "{}", answer.text);
    }

    /// All accepted bids, page by page.
    pub async fn history(&self, goods: i64) -> Vec<Value> {
        let (mut all, mut after) = (Vec::new(), 0);
        loop {
            let page = self.get(&format!("/goods/{goods}/bids?after_seq={after}")).await;
            assert_eq!(page.status, 200, "{}", page.text);
            all.extend(page.body["results"].as_array().unwrap().iter().cloned());
            match page.body["next_after_seq"].as_i64() {
                Some(next) => after = next,
                None => return all,
            }
        }
    }

    /// The whole inbox, oldest first, page by page.
    pub async fn inbox(&self) -> Vec<Value> {
        let (mut all, mut after) = (Vec::new(), 0);
        loop {
            let page = self.get(&format!("/alarms?after={after}&limit=200")).await;
            assert_eq!(page.status, 200, "{}", page.text);
            let rows = page.body["results"].as_array().unwrap();
            match rows.last() {
                Some(last) => after = last["id"].as_i64().unwrap(),
                None => return all,
            }
            all.extend(rows.iter().cloned());
        }
    }

    /// Kind and goods of each alarm in the inbox, oldest first.
    pub async fn inbox_kinds(&self) -> Vec<(String, i64)> {
        let inbox = self.inbox().await;
        inbox.iter().map(|a| (a["kind"].as_str().unwrap().to_owned(), a["goods_id"].as_i64().unwrap())).collect()
    }

    /// The alarm socket, opened as the existing client does: the token in the query, no `since`.
    pub async fn socket(&self) -> Socket {
        Socket::open(&self.for_socket(), &format!("/ws/alram/?token={}", self.token()), &[], None)
            .await
            .expect("a socket")
    }

    /// The alarm socket of a modern client.
    pub async fn socket_since(&self, since: i64) -> Socket {
        let path = format!("/ws/alarms/?since={since}");
        Socket::open(&self.for_socket(), &path, &[], self.token.as_deref()).await.expect("a socket")
    }

    /// Any socket of a server that may be down or go down while it answers. `Err` of the inner result is the status of
    /// a refused handshake.
    pub async fn try_socket(&self, path: &str) -> Result<Result<Socket, u16>, String> {
        Socket::try_open(&self.for_socket(), path, &[], self.token.as_deref()).await
    }

    /// A socket of an auction room, opened as the existing client does. A visitor's has no token.
    pub async fn room(&self, goods: i64) -> Socket {
        self.try_room(goods).await.expect("a socket")
    }

    /// A socket of an auction room, or the status of its refusal.
    pub async fn try_room(&self, goods: impl std::fmt::Display) -> Result<Socket, u16> {
        let query = self.token.as_ref().map(|token| format!("?token={token}")).unwrap_or_default();
        Socket::open(&self.for_socket(), &format!("/ws/auction/{goods}/{query}"), &[], None).await
    }

    /// A socket of a trade chat, or the status of its refusal.
    pub async fn try_trade(&self, goods: impl std::fmt::Display) -> Result<Socket, u16> {
        let query = self.token.as_ref().map(|token| format!("?token={token}")).unwrap_or_default();
        Socket::open(&self.for_socket(), &format!("/ws/chat/{goods}/{query}"), &[], None).await
    }
}
