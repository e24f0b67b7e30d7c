//! Runs the examples of `docs/protocol.md` in their order. An answer or frame that differs from the page fails the
//! test.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    str::FromStr,
    sync::Arc,
};

use awc::http::{Method, StatusCode};
use awc::ws::Message;
use handsup::test_support::domain::Timestamp;
use serde_json::{Value, json};

use super::{
    events::Stream,
    support::{
        AnswerBody, Client, Closed, Described, Example, Exchange, ManualTime, Socket, Step, TestNode, claims, examples,
        signed,
    },
};

/// The users of the page.
const PEOPLE: [(&str, i64); 4] = [("seller", 1), ("mina", 2), ("joon", 3), ("admin", 9)];
/// The time at the beginning.
const BEGINNING: &str = "2026-11-22T08:29:27.865Z";

/// A service and its clients.
struct Stage {
    node: TestNode,
    time: Arc<ManualTime>,
    http: Client,
    openapi: Described,
    asyncapi: Described,
    /// The messages of `/asyncapi.json` that were sent or received.
    seen: BTreeSet<String>,
    sockets: BTreeMap<String, Socket>,
}

#[actix_web::test]
async fn the_service_does_what_every_example_of_the_page_shows() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/protocol.md");
    let examples = examples(&fs::read_to_string(page).unwrap()).unwrap_or_else(|error| panic!("{error}"));
    let time = ManualTime::at(Timestamp::parse_rfc3339(BEGINNING).unwrap());
    let node = TestNode::alone_with_time(time.clone(), |settings| {
        settings.server.workers = Some(1);
        settings.auction.soft_close_s = 30;
    });
    let http = node.visitor();
    let openapi = Described::new(http.get("/openapi.json").await.body);
    let asyncapi = Described::new(http.get("/asyncapi.json").await.body);
    let sockets = BTreeMap::new();
    let mut stage = Stage { node, time, http, openapi, asyncapi, seen: BTreeSet::new(), sockets };
    let mut on = String::new();
    for Example { line, step } in examples {
        if let Err(why) = stage.play(step, &mut on).await {
            panic!("docs/protocol.md, line {line}: {why}");
        }
    }
    assert_eq!(stage.seen, stage.asyncapi.messages(), "the page shows every kind of frame");
    stage.end().await;
}

impl Stage {
    async fn play(&mut self, step: Step, on: &mut String) -> Result<(), String> {
        match step {
            Step::Clock(shows) => {
                self.time.set(shows);
                self.node.wait_until_settled(shows).await;
            }
            Step::Exchange(exchange) => self.exchange(exchange).await?,
            Step::On(name) => {
                // A refused handshake is checked by the next step.
                if !self.sockets.contains_key(&name)
                    && let Ok(socket) = self.open(&name).await
                {
                    self.sockets.insert(name.clone(), socket);
                }
                *on = name;
            }
            Step::IsRefused(status) => match self.open(on).await {
                Err(refused) if refused == status => {}
                Err(refused) => return Err(format!("it is refused with {refused}")),
                Ok(_) => return Err("it is not refused".to_owned()),
            },
            Step::Sends(text) => {
                let text = self.with_tokens(&text);
                self.describe(on, "receive", &text)?;
                self.socket(on)?.send_text(&text).await;
            }
            Step::Receives(shown) => {
                let socket = self.socket(on)?;
                let frame = if shown.has("response_type", "watchers") {
                    socket.next_watchers().await
                } else {
                    socket.text_or_close().await.map_err(|closed| format!("instead of a frame: {closed:?}"))?
                };
                self.describe(on, "send", &frame.to_string())?;
                if let Some(difference) = shown.difference(&frame) {
                    return Err(difference);
                }
            }
            Step::ReceivesClose(code, reason) => {
                let socket = self.sockets.remove(on).ok_or("no such socket is open")?;
                let closed = must_close(socket).await?;
                let is_shown = closed.code == Some(code) && (reason == "…" || closed.reason == reason);
                if !is_shown || closed.reason.is_empty() {
                    return Err(format!("{closed:?}"));
                }
            }
            Step::Closes => {
                let mut socket = self.sockets.remove(on).ok_or("no such socket is open")?;
                socket.send(Message::Close(None)).await;
                must_close(socket).await?;
            }
        }
        Ok(())
    }

    /// Checks a frame against `/asyncapi.json`.
    fn describe(&mut self, on: &str, action: &str, frame: &str) -> Result<(), String> {
        let path = on.split(' ').nth(2).ok_or("USER on PATH")?;
        let frame = serde_json::from_str(frame).map_err(|error| error.to_string())?;
        let message = self.asyncapi.message(path, action, &frame);
        self.seen.insert(message.map_err(|error| format!("/asyncapi.json: {error}"))?);
        Ok(())
    }

    fn socket(&mut self, name: &str) -> Result<&mut Socket, String> {
        self.sockets.get_mut(name).ok_or_else(|| format!("{name} is not open"))
    }

    /// Opens `USER on PATH`, or `USER on PATH as SUBPROTOCOLS`.
    async fn open(&self, name: &str) -> Result<Socket, u16> {
        let (user, path) = name.split_once(" on ").expect("USER on PATH");
        let token = (user != "visitor").then(|| self.token(user));
        let Some((path, protocols)) = path.split_once(" as ") else {
            return Socket::open(&self.node.base(), path, &[], token.as_deref()).await;
        };
        let protocols = self.with_tokens(protocols);
        let protocols: Vec<&str> = protocols.split(", ").collect();
        let socket = Socket::open(&self.node.base(), path, &protocols, None).await?;
        assert_eq!(socket.protocol.as_deref(), protocols.first().copied(), "the subprotocol that is answered");
        Ok(socket)
    }

    /// A token of one of the people, issued now, for an hour.
    fn token(&self, name: &str) -> String {
        let known = PEOPLE.iter().find(|(known, _)| *known == name);
        let (_, id) = known.unwrap_or_else(|| panic!("no user is called {name}"));
        signed(&claims(&json!(id), self.node.now(), &json!({"username": name, "admin": name == "admin"})))
    }

    /// The text with a token for each `<name>`.
    fn with_tokens(&self, text: &str) -> String {
        PEOPLE.iter().fold(text.to_owned(), |text, (name, _)| {
            let place = format!("<{name}>");
            if text.contains(&place) { text.replace(&place, &self.token(name)) } else { text }
        })
    }

    async fn exchange(&self, exchange: Exchange) -> Result<(), String> {
        let Exchange { method, path, headers, body, status, reason, answer_headers, answer } = exchange;
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), self.with_tokens(value))).collect();
        let path = self.with_tokens(&path);
        if let AnswerBody::Events(events) = answer {
            return self.stream(&path, &headers, events);
        }
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let verb = Method::from_str(&method).map_err(|error| error.to_string())?;
        let found = self.http.send_with(verb, &path, body.map(String::into_bytes), &headers).await;
        if found.status != status {
            return Err(format!("{} {}", found.status, found.text));
        }
        if let Some(undocumented) = self.openapi.undocumented(&method, &path, &found) {
            return Err(format!("/openapi.json: {undocumented}"));
        }
        let usual = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
        if usual != Some(reason.as_str()) {
            return Err(format!("{status} is {usual:?}"));
        }
        for (name, value) in answer_headers {
            let found = found.headers.get(&name).and_then(|value| value.to_str().ok());
            if found != Some(value.as_str()) {
                return Err(format!("{name} is {found:?}"));
            }
        }
        match answer {
            AnswerBody::Json(shown) => shown.difference(&found.body).map_or(Ok(()), Err),
            _ if found.text.is_empty() => Ok(()),
            _ => Err(format!("there is a body: {}", found.text)),
        }
    }

    fn stream(&self, path: &str, headers: &[(&str, String)], events: Vec<Vec<(String, String)>>) -> Result<(), String> {
        let bearer = headers.iter().find_map(|(_, value)| value.strip_prefix("Bearer ")).ok_or("a bearer token")?;
        let others = headers.iter().filter(|(name, _)| *name != "Authorization");
        let others: String = others.map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let mut stream = Stream::open(&self.node, bearer, path, &others);
        for shown in events {
            let found = stream.next().ok_or("the stream ends")?;
            if shown.len() != found.len() {
                return Err(format!("{found:?}"));
            }
            for ((name, shown), (found_name, found)) in shown.iter().zip(&found) {
                let json = |text: &str| serde_json::from_str::<Value>(text).map_err(|error| error.to_string());
                let is_same = match name.as_str() {
                    "data" => super::support::ExpectedJson::parse(shown)?.difference(&json(found)?).is_none(),
                    _ => shown == found,
                };
                if name != found_name || !is_same {
                    return Err(format!("{found_name}: {found}"));
                }
            }
        }
        Ok(())
    }

    /// Asserts that no socket has a frame that the page does not show.
    async fn end(self) {
        for (name, mut socket) in self.sockets {
            socket.send(Message::Close(None)).await;
            must_close(socket).await.unwrap_or_else(|why| panic!("{name}, after the last example: {why}"));
        }
    }
}

/// How the socket ends. Asserts that no frame comes before.
async fn must_close(mut socket: Socket) -> Result<Closed, String> {
    match socket.text_or_close().await {
        Ok(frame) => Err(format!("the page does not show {frame}")),
        Err(closed) => Ok(closed),
    }
}
