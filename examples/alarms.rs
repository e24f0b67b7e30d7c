//! Prints a user's alarms. A lost connection costs nothing: the client comes back with the id of the last alarm that it
//! has, and gets what came since.
//!
//! `cargo run --example alarms -- http://127.0.0.1:8000 "$(target/release/handsup token --user-id 2 --username mina)"`
#![allow(clippy::print_stdout)]

use std::{env, process::ExitCode, time::Duration};

use awc::{
    Client,
    error::WsClientError,
    ws::{Frame, Message},
};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};

/// Close codes after which coming back by itself does not help: a fault of this client, a token that is no longer good, and
/// a user with too many newer sockets (`docs/protocol.md#closes`).
const FINAL_CODES: [u16; 6] = [1002, 1003, 1007, 1009, 4401, 4409];
/// The longest pause before another attempt.
const PAUSE_LIMIT_MS: u64 = 30_000;

#[actix_web::main]
async fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let (Some(base), Some(token)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: alarms URL TOKEN");
        return ExitCode::from(2);
    };
    let why = follow(&base, &token, |alarm| println!("{} {}", alarm["kind"], alarm["message"])).await;
    eprintln!("{why}");
    ExitCode::FAILURE
}

/// Hands each alarm on once, in order, over as many connections as it takes. Says at last why it can't go on.
pub async fn follow(base: &str, token: &str, mut on_alarm: impl FnMut(&Value)) -> String {
    let (mut last_id, mut failures) = (0, 0);
    loop {
        let url = format!("{base}/ws/alarms/?since={last_id}");
        let request = Client::new().ws(url).header("Authorization", format!("Bearer {token}"));
        let mut retry_ms = 0;
        match request.connect().await {
            Ok((_, mut socket)) => {
                while let Some(Ok(frame)) = socket.next().await {
                    match frame {
                        Frame::Text(text) => {
                            failures = 0;
                            let frame: Value = serde_json::from_slice(&text).unwrap_or_default();
                            if matches!(frame["response_type"].as_str(), Some("alram" | "chat_alram")) {
                                on_alarm(&frame);
                                last_id = frame["id"].as_i64().unwrap_or(last_id);
                                let ack = json!({"type": "ack", "up_to": last_id}).to_string();
                                let _ = socket.send(Message::Text(ack.into())).await;
                            }
                        }
                        Frame::Ping(payload) => {
                            let _ = socket.send(Message::Pong(payload)).await;
                        }
                        Frame::Close(Some(close)) => {
                            let (code, reason) = (u16::from(close.code), close.description.unwrap_or_default());
                            if FINAL_CODES.contains(&code) {
                                return format!("closed with {code}: {reason}");
                            }
                            // A server that restarts says when each of its clients is to come back.
                            let reason: Value = serde_json::from_str(&reason).unwrap_or_default();
                            retry_ms = reason["retry_ms"].as_u64().unwrap_or(0);
                        }
                        _ => {}
                    }
                }
            }
            Err(WsClientError::InvalidResponseStatus(status)) if status.is_client_error() => {
                return format!("refused with {status}");
            }
            Err(_) => {}
        }
        // At a random moment: all clients of a lost server come back, and not at once.
        failures = (failures + 1).min(6);
        let pause = rand::random_range(0..=(500 << failures).min(PAUSE_LIMIT_MS));
        actix_web::rt::time::sleep(Duration::from_millis(retry_ms + pause)).await;
    }
}
