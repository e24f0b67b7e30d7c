//! A WebSocket client. It answers pings as a browser does, unless [`Socket::answers_pings`] is off.

use std::time::Duration;

use actix_codec::Framed;
use awc::{
    BoxedSocket,
    ws::{CloseReason, Codec, Frame, Message},
};
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;

use super::{DEADLINE, SLOW_DEADLINE};

/// How a socket ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// The code of the close frame; `None` if the connection ended without one.
    pub code: Option<u16>,
    pub reason: String,
}

pub struct Socket {
    framed: Framed<BoxedSocket, Codec>,
    /// The subprotocol that the server chose.
    pub protocol: Option<String>,
    /// Whether it answers pings.
    pub answers_pings: bool,
    /// The newest `watchers` frame that was skipped.
    skipped_watchers: Option<Value>,
}

fn is_watchers(frame: &Value) -> bool {
    frame["response_type"] == "watchers"
}

impl Socket {
    /// Opens a socket. `Err` is the status of a refused handshake.
    pub async fn open(base: &str, path: &str, protocols: &[&str], bearer: Option<&str>) -> Result<Self, u16> {
        Self::try_open(base, path, protocols, bearer).await.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Opens a socket at a server that may be down or go down while it answers.
    pub async fn try_open(
        base: &str,
        path: &str,
        protocols: &[&str],
        bearer: Option<&str>,
    ) -> Result<Result<Self, u16>, String> {
        let mut request = awc::Client::new().ws(format!("{base}{path}"));
        if !protocols.is_empty() {
            request = request.protocols(protocols.iter().copied());
        }
        if let Some(token) = bearer {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        match tokio::time::timeout(DEADLINE, request.connect()).await.expect("a handshake in time") {
            Ok((response, framed)) => {
                let protocol = response.headers().get("sec-websocket-protocol");
                let protocol = protocol.map(|value| value.to_str().unwrap().to_owned());
                Ok(Ok(Self { framed, protocol, answers_pings: true, skipped_watchers: None }))
            }
            Err(awc::error::WsClientError::InvalidResponseStatus(status)) => Ok(Err(status.as_u16())),
            Err(error) => Err(error.to_string()),
        }
    }

    pub async fn send(&mut self, message: Message) {
        self.framed.send(message).await.expect("the frame goes out");
    }

    pub async fn send_text(&mut self, text: &str) {
        self.send(Message::Text(text.to_owned().into())).await;
    }

    pub async fn send_json(&mut self, frame: &Value) {
        self.send_text(&frame.to_string()).await;
    }

    /// Sends to a server that may have closed the socket already.
    pub async fn try_send_json(&mut self, frame: &Value) {
        let _ = self.framed.send(Message::Text(frame.to_string().into())).await;
    }

    /// The next text frame, as JSON; `None` when the server closes.
    pub async fn try_next(&mut self) -> Option<Value> {
        loop {
            match self.frame().await? {
                Frame::Text(text) => match serde_json::from_slice(&text).expect("JSON") {
                    frame if is_watchers(&frame) => self.skipped_watchers = Some(frame),
                    frame => return Some(frame),
                },
                Frame::Close(_) => return None,
                Frame::Ping(payload) => {
                    let _ = self.framed.send(Message::Pong(payload)).await;
                }
                _ => {}
            }
        }
    }

    async fn frame(&mut self) -> Option<Frame> {
        self.frame_within(DEADLINE).await
    }

    async fn frame_within(&mut self, within: Duration) -> Option<Frame> {
        let next = tokio::time::timeout(within, self.framed.next()).await.expect("a frame in time");
        next.and_then(Result::ok)
    }

    /// The next ping's payload. Texts before it are skipped.
    pub async fn next_ping(&mut self) -> String {
        loop {
            match self.frame().await.expect("the socket is open") {
                Frame::Ping(payload) => return String::from_utf8(payload.to_vec()).unwrap(),
                Frame::Text(_) => {}
                other => panic!("instead of a ping: {other:?}"),
            }
        }
    }

    /// The next text frame, as JSON. Rooms send `watchers` by the clock, at any time: only [`Socket::next_watchers`] sees
    /// them.
    pub async fn next(&mut self) -> Value {
        loop {
            match self.next_of_all(DEADLINE).await {
                frame if is_watchers(&frame) => self.skipped_watchers = Some(frame),
                frame => return frame,
            }
        }
    }

    /// A `watchers` frame: the newest one that was skipped, else the next. It may be that only the second tick of two
    /// nodes brings it. Others before it are skipped.
    pub async fn next_watchers(&mut self) -> Value {
        if let Some(frame) = self.skipped_watchers.take() {
            return frame;
        }
        loop {
            let frame = self.next_of_all(SLOW_DEADLINE).await;
            if is_watchers(&frame) {
                return frame;
            }
        }
    }

    async fn next_of_all(&mut self, within: Duration) -> Value {
        loop {
            match self.frame_within(within).await.expect("the socket is open") {
                Frame::Text(text) => return serde_json::from_slice(&text).expect("JSON"),
                Frame::Ping(payload) if self.answers_pings => {
                    // The socket may be closing; a pong that cannot be sent does not matter.
                    let _ = self.framed.send(Message::Pong(payload)).await;
                }
                Frame::Ping(_) | Frame::Pong(_) => {}
                other => panic!("instead of a text: {other:?}"),
            }
        }
    }

    /// The next text frame, which must be an alarm of this kind.
    pub async fn expect_alarm(&mut self, kind: &str) -> Value {
        let alarm = self.next().await;
        assert_eq!(alarm["kind"], kind, "{alarm}");
        alarm
    }

    /// The next text frame, which must have this `response_type`.
    pub async fn expect_frame(&mut self, response_type: &str) -> Value {
        let frame = self.next().await;
        assert_eq!(frame["response_type"], response_type, "{frame}");
        frame
    }

    /// The next text frame, or how the server closes.
    pub async fn text_or_close(&mut self) -> Result<Value, Closed> {
        loop {
            match self.frame().await {
                Some(Frame::Text(text)) => match serde_json::from_slice(&text).expect("JSON") {
                    frame if is_watchers(&frame) => self.skipped_watchers = Some(frame),
                    frame => return Ok(frame),
                },
                Some(Frame::Close(reason)) => {
                    let (code, description) = reason.map_or((None, None), |r| (Some(r.code.into()), r.description));
                    return Err(Closed { code, reason: description.unwrap_or_default() });
                }
                Some(Frame::Ping(payload)) => {
                    let _ = self.framed.send(Message::Pong(payload)).await;
                }
                Some(_) => {}
                None => return Err(Closed { code: None, reason: String::new() }),
            }
        }
    }

    /// All text frames until the connection ends in any way.
    pub async fn until_gone(&mut self) -> Vec<Value> {
        let mut received = Vec::new();
        loop {
            match self.frame().await {
                Some(Frame::Text(text)) => received.push(serde_json::from_slice(&text).expect("JSON")),
                Some(Frame::Ping(payload)) => {
                    let _ = self.framed.send(Message::Pong(payload)).await;
                }
                Some(_) => {}
                None => return received,
            }
        }
    }

    /// The code of the server's close frame, without waiting for the end of the connection.
    pub async fn close_code(&mut self) -> u16 {
        loop {
            match self.frame().await.expect("a close frame") {
                Frame::Close(reason) => return reason.expect("a code").code.into(),
                Frame::Ping(payload) => {
                    let _ = self.framed.send(Message::Pong(payload)).await;
                }
                _ => {}
            }
        }
    }

    /// The code of the server's close frame, if it comes within this time.
    pub async fn closed_within(&mut self, time: Duration) -> Option<u16> {
        tokio::time::timeout(time, self.close_code()).await.ok()
    }

    /// How the socket ends. Texts before it are skipped.
    pub async fn closed(&mut self) -> Closed {
        let mut closed = Closed { code: None, reason: String::new() };
        while let Some(frame) = self.frame().await {
            match frame {
                Frame::Close(reason) => {
                    if let Some(CloseReason { code, description }) = reason {
                        closed = Closed { code: Some(code.into()), reason: description.unwrap_or_default() };
                    }
                    let _ = self.framed.send(Message::Close(None)).await;
                }
                Frame::Ping(payload) if self.answers_pings => {
                    let _ = self.framed.send(Message::Pong(payload)).await;
                }
                _ => {}
            }
        }
        closed
    }

    /// Closes from this side and waits for the server's answer.
    pub async fn close(mut self) {
        self.send(Message::Close(None)).await;
        self.closed().await;
    }
}
