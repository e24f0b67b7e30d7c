//! The demo's users: clients over HTTP and WebSocket, as browsers are.

use awc::ws::Frame;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};

use super::print_line;

/// A client of one user, with their token.
pub(super) struct Client {
    base: String,
    token: String,
}

impl Client {
    /// Gets a token from the dev login.
    pub(super) async fn log_in(base: &str, user_id: i64, username: &str) -> Result<Self, String> {
        let mut client = Self { base: base.to_owned(), token: String::new() };
        let response =
            client.call("POST", "/dev/token", Some(&json!({"user_id": user_id, "username": username}))).await?;
        client.token = response["token"].as_str().ok_or("the response has no token")?.to_owned();
        Ok(client)
    }

    pub(super) fn token(&self) -> &str {
        &self.token
    }

    pub(super) async fn make_goods(&self, goods: &Value) -> Result<i64, String> {
        let response = self.call("POST", "/goods/", Some(goods)).await?;
        response["id"].as_i64().ok_or_else(|| format!("the response has no id: {response}"))
    }

    pub(super) async fn like(&self, goods: i64) -> Result<(), String> {
        self.call("PUT", &format!("/goods/{goods}/like"), None).await.map(drop)
    }

    /// Bids. A refusal is no error: a person may have been faster.
    pub(super) async fn bid(&self, goods: i64, price: i64) -> Result<(), String> {
        self.call("POST", &format!("/goods/{goods}/bids"), Some(&json!({"price": price}))).await.map(drop)
    }

    /// Prints every frame of the user's alarm socket, with their name before it.
    pub(super) fn listen(&self, name: &'static str) {
        let request = awc::Client::new()
            .ws(format!("{}/ws/alarms/", self.base))
            .header("Authorization", format!("Bearer {}", self.token));
        actix_web::rt::spawn(async move {
            let mut socket = match request.connect().await {
                Ok((_, socket)) => socket,
                Err(error) => return print_line(format_args!("{name} | can't connect: {error}")),
            };
            while let Some(Ok(frame)) = socket.next().await {
                match frame {
                    Frame::Text(text) => print_line(format_args!("{name} | {}", String::from_utf8_lossy(&text))),
                    Frame::Ping(payload) => {
                        let _ = socket.send(awc::ws::Message::Pong(payload)).await;
                    }
                    _ => {}
                }
            }
        });
    }

    /// Sends a request, and returns the JSON of the response. Only a server error (5xx) is an error.
    async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, String> {
        let method = method.parse().map_err(|_| "bad method")?;
        let mut request = awc::Client::new().request(method, format!("{}{path}", self.base));
        if !self.token.is_empty() {
            request = request.insert_header(("Authorization", format!("Bearer {}", self.token)));
        }
        let sent = match body {
            Some(body) => request.send_json(body).await,
            None => request.send().await,
        };
        let mut response = sent.map_err(|error| format!("{path}: {error}"))?;
        let bytes = response.body().await.map_err(|error| format!("{path}: {error}"))?;
        if response.status().is_server_error() {
            return Err(format!("{path}: {}", String::from_utf8_lossy(&bytes)));
        }
        Ok(serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }
}
