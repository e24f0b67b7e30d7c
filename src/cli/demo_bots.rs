//! The demo's users: clients over HTTP and WebSocket, as browsers are.

use awc::{
    error::{PayloadError, SendRequestError},
    http::Method,
    ws::Frame,
};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};

use super::print_line;

/// Why the demo ends before somebody ends it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    #[error("the server has stopped unexpectedly")]
    ServerStopped,
    #[error("{path}: {source}")]
    Send { path: String, source: SendRequestError },
    #[error("{path}: {source}")]
    Receive { path: String, source: PayloadError },
    /// The server answered 5xx, or without what its answer must have.
    #[error("{path}: unexpected response {body}")]
    Response { path: String, body: String },
}

/// A client of one user, with their token.
pub(super) struct Client {
    base: String,
    token: String,
}

impl Client {
    /// Gets a token from the dev login.
    pub(super) async fn log_in(base: &str, user_id: i64, username: &str) -> Result<Self, DemoError> {
        let mut client = Self { base: base.to_owned(), token: String::new() };
        let path = "/dev/token";
        let response =
            client.call(Method::POST, path, Some(&json!({"user_id": user_id, "username": username}))).await?;
        client.token = response["token"].as_str().ok_or_else(|| unexpected(path, &response))?.to_owned();
        Ok(client)
    }

    pub(super) fn token(&self) -> &str {
        &self.token
    }

    pub(super) async fn make_goods(&self, goods: &Value) -> Result<i64, DemoError> {
        let path = "/goods/";
        let response = self.call(Method::POST, path, Some(goods)).await?;
        response["id"].as_i64().ok_or_else(|| unexpected(path, &response))
    }

    pub(super) async fn like(&self, goods: i64) -> Result<(), DemoError> {
        self.call(Method::PUT, &format!("/goods/{goods}/like"), None).await.map(drop)
    }

    /// Bids. A refusal is no error: a person may have been faster.
    pub(super) async fn bid(&self, goods: i64, price: i64) -> Result<(), DemoError> {
        self.call(Method::POST, &format!("/goods/{goods}/bids"), Some(&json!({"price": price}))).await.map(drop)
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
    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, DemoError> {
        let mut request = awc::Client::new().request(method, format!("{}{path}", self.base));
        if !self.token.is_empty() {
            request = request.insert_header(("Authorization", format!("Bearer {}", self.token)));
        }
        let sent = match body {
            Some(body) => request.send_json(body).await,
            None => request.send().await,
        };
        let mut response = sent.map_err(|source| DemoError::Send { path: path.to_owned(), source })?;
        let body = response.body().await;
        let bytes = body.map_err(|source| DemoError::Receive { path: path.to_owned(), source })?;
        if response.status().is_server_error() {
            return Err(unexpected(path, &String::from_utf8_lossy(&bytes)));
        }
        Ok(serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }
}

fn unexpected(path: &str, body: &dyn std::fmt::Display) -> DemoError {
    DemoError::Response { path: path.to_owned(), body: body.to_string() }
}
