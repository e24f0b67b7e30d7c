//! `/openapi.json` or `/asyncapi.json` as a client reads it: looks up operations and checks values against schemas.

use std::collections::BTreeSet;

use boon::{Compiler, Draft, Schemas};
use serde_json::Value;

use super::Answer;

/// Where the document is said to be; its schemas refer to each other by this.
const LOCATION: &str = "http://localhost/document.json";

/// A document that describes the API.
pub struct Described(Value);

impl Described {
    pub fn new(document: Value) -> Self {
        assert!(document.is_object(), "{document}");
        Self(document)
    }

    pub fn document(&self) -> &Value {
        &self.0
    }

    /// What differs between a value and the schema at this JSON pointer.
    pub fn difference(&self, pointer: &str, value: &Value) -> Option<String> {
        if self.0.pointer(pointer).is_none() {
            return Some(format!("there is no {pointer}"));
        }
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.set_default_draft(Draft::V2020_12);
        compiler.enable_format_assertions();
        compiler.add_resource(LOCATION, self.0.clone()).expect("a document");
        let fragment = pointer.replace('{', "%7B").replace('}', "%7D");
        let schema = compiler.compile(&format!("{LOCATION}#{fragment}"), &mut schemas);
        let schema = schema.unwrap_or_else(|error| panic!("{pointer} is no schema: {error:#}"));
        schemas.validate(value, schema).err().map(|error| format!("{value} is not as {pointer} says: {error:#}"))
    }

    /// What the document does not say about an answer: its operation, status, content type or body. `HEAD` is `GET`.
    pub fn undocumented(&self, method: &str, path: &str, answer: &Answer) -> Option<String> {
        let method = if method == "HEAD" { "get".to_owned() } else { method.to_lowercase() };
        let path = path.split('?').next().unwrap_or_default();
        let Some(template) = self.template(path) else { return Some(format!("{path} is not documented")) };
        let status = answer.status;
        let pointer = format!("/paths/{}/{method}/responses/{status}", escaped(&template));
        let Some(response) = self.0.pointer(&pointer) else {
            return Some(format!("{method} {template} may answer with {status}, which is not documented"));
        };
        let content_type = answer.headers.get("content-type").and_then(|value| value.to_str().ok());
        match (response["content"].as_object(), content_type) {
            (None, None) => None,
            (Some(content), Some(found)) if content.contains_key(found) => {
                let text = Value::String(answer.text.clone());
                let body = if found.starts_with("text/") { &text } else { &answer.body };
                self.difference(&format!("{pointer}/content/{}/schema", escaped(found)), body)
            }
            (documented, found) => {
                Some(format!("{method} {template} {status} is {found:?}, but {documented:?} is documented"))
            }
        }
    }

    /// The name of the message of `/asyncapi.json` that a frame is, on the socket of this path. `action` is what the server
    /// does: `send` or `receive`.
    pub fn message(&self, path: &str, action: &str, frame: &Value) -> Result<String, String> {
        let path = path.split('?').next().unwrap_or_default();
        let channels = self.0["channels"].as_object().ok_or("channels")?;
        let address = |channel: &Value| channel["address"].as_str().unwrap_or_default().replace("{id}/", "");
        let (channel, _) = channels.iter().find(|(_, it)| path.starts_with(&address(it))).ok_or("no such channel")?;
        let operation = &self.0["operations"][format!("{action}_{channel}")];
        let messages = operation["messages"].as_array().ok_or("no such operation")?;
        let mut differences = Vec::new();
        for message in messages {
            let name = message["$ref"].as_str().and_then(|it| it.rsplit('/').next()).ok_or("a reference")?;
            match self.difference(&format!("/components/messages/{name}/payload"), frame) {
                None => return Ok(name.to_owned()),
                Some(difference) => differences.push(difference),
            }
        }
        // The one that it was to be, if that can be told.
        let kind = frame["response_type"].as_str().unwrap_or_default();
        differences.sort_by_key(|difference| !difference.contains(&format!("messages/{kind}/")));
        Err(format!("{path} has no such frame: {:?}", differences.first()))
    }

    /// The names of all messages of `/asyncapi.json`.
    pub fn messages(&self) -> BTreeSet<String> {
        self.0["components"]["messages"].as_object().expect("messages").keys().cloned().collect()
    }

    /// The targets of all `$ref`.
    pub fn references(&self) -> Vec<String> {
        fn of(value: &Value) -> Vec<String> {
            match value {
                Value::Object(fields) => {
                    let own = fields.get("$ref").and_then(Value::as_str).map(str::to_owned);
                    own.into_iter().chain(fields.values().flat_map(of)).collect()
                }
                Value::Array(items) => items.iter().flat_map(of).collect(),
                _ => Vec::new(),
            }
        }
        of(&self.0)
    }

    /// The template of a path. One without parameters goes before one with them.
    fn template(&self, path: &str) -> Option<String> {
        let parts = |path: &str| path.trim_end_matches('/').split('/').map(str::to_owned).collect::<Vec<_>>();
        let path = parts(path);
        let fits = |template: &&String| {
            let template = parts(template);
            template.len() == path.len() && template.iter().zip(&path).all(|(is, of)| is.starts_with('{') || is == of)
        };
        let templates = self.0["paths"].as_object()?.keys();
        templates.filter(fits).min_by_key(|template| template.matches('{').count()).cloned()
    }
}

/// A key as a part of a JSON pointer.
pub fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
