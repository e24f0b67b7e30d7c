//! The examples of `docs/protocol.md`, read from its fenced blocks: `http` is an exchange, `ws` are frames of
//! WebSockets, `clock` is the service's time from there on. An example that cannot be read is an error, because an
//! example that is never run proves nothing.

use handsup::test_support::domain::Timestamp;
use serde_json::Value;

/// Kinds of blocks that are not examples.
const NOT_PLAYED: [&str; 3] = ["sh", "toml", "js"];
/// Stands for any value, or for further fields or elements.
const ANY: &str = "\u{e000}";

/// One step, and the line of the page on which it begins.
#[derive(Debug)]
pub struct Example {
    pub line: usize,
    pub step: Step,
}

#[derive(Debug)]
pub enum Step {
    /// The service's time from now on.
    Clock(Timestamp),
    /// A request and its answer.
    Exchange(Exchange),
    /// `USER on PATH`, optionally `as SUBPROTOCOLS`: selects this socket for the next steps, and opens it if it is not
    /// open.
    On(String),
    /// The client sends this text.
    Sends(String),
    /// The client closes.
    Closes,
    /// The server sends this frame.
    Receives(ExpectedJson),
    /// The server closes, with this reason.
    ReceivesClose(u16, String),
    /// The server refuses the handshake with this status.
    IsRefused(u16),
}

#[derive(Debug)]
pub struct Exchange {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Option<String>,
    pub status: u16,
    pub reason: String,
    pub answer_headers: Vec<(String, String)>,
    pub answer: AnswerBody,
}

#[derive(Debug)]
pub enum AnswerBody {
    Empty,
    Json(ExpectedJson),
    /// Server-sent events: the first of the stream, each with its fields in order.
    Events(Vec<Vec<(String, String)>>),
}

/// All examples, in the page's order.
pub fn examples(page: &str) -> Result<Vec<Example>, String> {
    let mut examples = Vec::new();
    let mut lines = page.lines().enumerate().map(|(at, line)| (at + 1, line));
    while let Some((begins, line)) = lines.next() {
        let Some(kind) = line.strip_prefix("```") else { continue };
        let mut block = Vec::new();
        loop {
            match lines.next() {
                Some((_, "```")) => break,
                Some(numbered) => block.push(numbered),
                None => return Err(format!("line {begins}: this block has no end")),
            }
        }
        let at = |error| format!("line {begins}: {error}");
        let text = || block.iter().map(|(_, line)| *line).collect::<Vec<_>>().join("\n");
        match kind {
            "clock" => {
                let shows = Timestamp::parse_rfc3339(text().trim()).ok_or_else(|| at("no time".to_owned()))?;
                examples.push(Example { line: begins, step: Step::Clock(shows) });
            }
            "http" => {
                let step = Step::Exchange(exchange(&text()).map_err(at)?);
                examples.push(Example { line: begins, step });
            }
            "ws" => examples.extend(frames(&block)?),
            other if NOT_PLAYED.contains(&other) => {}
            other => return Err(at(format!("a block of unknown kind {other:?}"))),
        }
    }
    if examples.is_empty() { Err("the page has no example".to_owned()) } else { Ok(examples) }
}

fn exchange(text: &str) -> Result<Exchange, String> {
    let (request, answer) = text.split_once("\nHTTP/1.1 ").ok_or("an answer begins with HTTP/1.1")?;
    let (first, headers, body) = head_and_body(request)?;
    let (method, path) = first.split_once(" /").ok_or("a request begins with METHOD /PATH")?;
    let (first, answer_headers, answer) = head_and_body(answer)?;
    let (status, reason) = first.split_once(' ').ok_or("HTTP/1.1 STATUS REASON")?;
    let is_stream = answer_headers.iter().any(|(name, value)| name == "Content-Type" && value == "text/event-stream");
    let answer = match answer {
        None => AnswerBody::Empty,
        Some(events) if is_stream => AnswerBody::Events(events.split("\n\n").map(fields).collect::<Result<_, _>>()?),
        Some(json) => AnswerBody::Json(ExpectedJson::parse(&json)?),
    };
    Ok(Exchange {
        method: method.to_owned(),
        path: format!("/{path}"),
        headers,
        body,
        status: status.parse().map_err(|_| format!("{status:?} is no status"))?,
        reason: reason.to_owned(),
        answer_headers,
        answer,
    })
}

type Fields = Vec<(String, String)>;

fn head_and_body(text: &str) -> Result<(&str, Fields, Option<String>), String> {
    let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
    let (first, headers) = head.trim_end().split_once('\n').unwrap_or((head.trim_end(), ""));
    let body = Some(body.trim()).filter(|body| !body.is_empty()).map(str::to_owned);
    Ok((first, fields(headers)?, body))
}

fn fields(lines: &str) -> Result<Fields, String> {
    let field = |line: &str| {
        let (name, value) = line.split_once(": ").ok_or_else(|| format!("{line:?} is no NAME: VALUE"))?;
        Ok((name.to_owned(), value.to_owned()))
    };
    lines.lines().map(field).collect()
}

/// A line that begins with a space continues the one before.
fn frames(block: &[(usize, &str)]) -> Result<Vec<Example>, String> {
    let mut joined: Vec<(usize, String)> = Vec::new();
    for (at, line) in block.iter().filter(|(_, line)| !line.trim().is_empty()) {
        match joined.last_mut() {
            Some((_, before)) if line.starts_with(' ') => before.push_str(line.trim_start()),
            _ => joined.push((*at, (*line).to_owned())),
        }
    }
    match joined.first() {
        Some((_, first)) if first.contains(" on /") => {}
        _ => return Err(format!("before line {}: whose frames are these?", block.first().map_or(0, |(at, _)| *at))),
    }
    joined
        .into_iter()
        .map(|(line, text)| {
            frame(&text).map(|step| Example { line, step }).map_err(|error| format!("line {line}: {error}"))
        })
        .collect()
}

fn frame(line: &str) -> Result<Step, String> {
    if let Some(sent) = line.strip_prefix("→ ") {
        return Ok(if sent == "close" { Step::Closes } else { Step::Sends(sent.to_owned()) });
    }
    let Some(received) = line.strip_prefix("← ") else {
        let is_opened = line.split_once(" on /").is_some_and(|(user, _)| !user.contains(' '));
        return if is_opened { Ok(Step::On(line.to_owned())) } else { Err(format!("{line:?} is no frame")) };
    };
    if let Ok(status) = received.parse() {
        return Ok(Step::IsRefused(status));
    }
    let Some(close) = received.strip_prefix("close ") else { return ExpectedJson::parse(received).map(Step::Receives) };
    let (code, reason) = close.split_once(' ').ok_or("close CODE REASON")?;
    Ok(Step::ReceivesClose(code.parse().map_err(|_| format!("{code:?} is no code"))?, reason.to_owned()))
}

/// JSON as the page shows it: `…` stands for any value, or for further fields or elements; `"…"` for any text.
#[derive(Debug)]
pub struct ExpectedJson(Value);

impl ExpectedJson {
    pub fn parse(text: &str) -> Result<Self, String> {
        let (mut json, mut nesting, mut before) = (String::new(), Vec::new(), ' ');
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match c {
                '"' => {
                    json.push(c);
                    let mut is_escaped = false;
                    for c in chars.by_ref() {
                        json.push(c);
                        if c == '"' && !is_escaped {
                            break;
                        }
                        is_escaped = c == '\\' && !is_escaped;
                    }
                }
                '…' if before != ':' && nesting.last() == Some(&'{') => json.push_str(&format!("\"{ANY}\":null")),
                '…' => json.push_str(&format!("\"{ANY}\"")),
                '{' | '[' => {
                    nesting.push(c);
                    json.push(c);
                }
                '}' | ']' => {
                    nesting.pop();
                    json.push(c);
                }
                _ => json.push(c),
            }
            if !c.is_whitespace() {
                before = c;
            }
        }
        serde_json::from_str(&json).map(Self).map_err(|error| format!("{error} in {text}"))
    }

    /// Whether a field has this value.
    pub fn has(&self, field: &str, value: &str) -> bool {
        self.0[field] == value
    }

    /// The first difference between the expected and the actual JSON, if any.
    pub fn difference(&self, found: &Value) -> Option<String> {
        difference(&self.0, found).map(|(path, why)| format!("{path} {why} in {found}"))
    }
}

fn difference(shown: &Value, found: &Value) -> Option<(String, String)> {
    let below =
        |name: String, shown, found| difference(shown, found).map(|(path, why)| (format!(".{name}{path}"), why));
    let here = |why: String| Some((String::new(), why));
    match (shown, found) {
        (Value::String(any), _) if any == ANY => None,
        (Value::String(any), Value::String(_)) if any == "…" => None,
        (Value::Object(shown), Value::Object(found)) => {
            let missing = shown.keys().find(|name| *name != ANY && !found.contains_key(*name));
            let further = found.keys().find(|name| !shown.contains_key(*name) && !shown.contains_key(ANY));
            match (missing, further) {
                (Some(name), _) => here(format!("has no {name}")),
                (_, Some(name)) => here(format!("also has {name}")),
                _ => shown
                    .iter()
                    .filter(|(name, _)| *name != ANY)
                    .find_map(|(name, shown)| below(name.clone(), shown, &found[name])),
            }
        }
        (Value::Array(shown), Value::Array(found)) => {
            let is_open = shown.last().is_some_and(|last| last == ANY);
            let least = shown.len() - usize::from(is_open);
            if found.len() < least || (found.len() > least && !is_open) {
                return here(format!("has {} elements", found.len()));
            }
            shown[..least]
                .iter()
                .zip(found)
                .enumerate()
                .find_map(|(at, (shown, found))| below(at.to_string(), shown, found))
        }
        (shown, found) if shown == found => None,
        (shown, _) => here(format!("is not {shown}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_example_that_cannot_be_read_is_an_error() {
        let good = "```http\nGET /x\nA: b\n\n{}\n\nHTTP/1.1 200 OK\n\n{\"a\":…}\n```\n```sh\nls\n```\n";
        assert_eq!(examples(good).map(|found| found.len()), Ok(1));
        for (bad, why) in [
            ("no block at all", "no example"),
            ("```sh\nls\n```", "no example"),
            ("```htp\nGET /x\n```", "unknown kind"),
            ("```\nGET /x\n```", "unknown kind"),
            ("```http\nGET /x\n\nHTTP/1.1 200 OK\n", "no end"),
            ("```http\nGET /x\n```", "HTTP/1.1"),
            ("```http\nGET x\n\nHTTP/1.1 200 OK\n```", "METHOD"),
            ("```http\nGET /x\nA\n\nHTTP/1.1 200 OK\n```", "NAME"),
            ("```http\nGET /x\n\nHTTP/1.1 200\n```", "REASON"),
            ("```http\nGET /x\n\nHTTP/1.1 ok OK\n```", "status"),
            ("```http\nGET /x\n\nHTTP/1.1 200 OK\n\n{\"a\":}\n```", "{\"a\":}"),
            ("```clock\nsoon\n```", "no time"),
            ("```ws\n← {}\n```", "whose"),
            ("```ws\nmina on /ws/alarms/\n<- {}\n```", "no frame"),
            ("```ws\nmina on /ws/alarms/\n← {\n```", "EOF"),
            ("```ws\nmina on /ws/alarms/\n← close soon\n```", "close CODE"),
        ] {
            let error = examples(bad).map(|found| found.len()).expect_err(bad);
            assert!(error.contains(why), "{bad:?}: {error}");
        }
    }

    #[test]
    fn what_differs_from_what_is_shown_is_found() {
        let shown = ExpectedJson::parse(
            r#"{"a": 1, "b": {"c": "…", "d": […]}, "e": …, "f": [{"g": null, …}], "h": "x … \" y"}"#,
        );
        let shown = shown.unwrap();
        let good =
            || json!({"a": 1, "b": {"c": "t", "d": [1, 2]}, "e": [], "f": [{"g": null, "i": 1}], "h": "x … \" y"});
        assert_eq!(shown.difference(&good()), None);
        let with = |change: fn(&mut Value)| {
            let mut found = good();
            change(&mut found);
            shown.difference(&found).expect("a difference")
        };
        assert!(with(|it| it["a"] = json!("1")).starts_with(".a is not 1"));
        assert!(with(|it| it["b"]["c"] = json!(2)).starts_with(".b.c is not"));
        assert!(with(|it| it["b"]["z"] = json!(2)).starts_with(".b also has z"));
        assert!(with(|it| it["f"][0] = json!({})).starts_with(".f.0 has no g"));
        assert!(with(|it| it["f"] = json!([])).starts_with(".f has 0"));
        assert!(with(|it| it["f"] = json!([{"g": null}, 1])).starts_with(".f has 2"));
        assert!(with(|it| it["h"] = json!("…")).starts_with(".h is not"));
        assert!(with(|it| drop(it.as_object_mut().unwrap().remove("e"))).contains("has no e"));
    }
}
