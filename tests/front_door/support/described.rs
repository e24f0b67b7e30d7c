//! `/openapi.json` or `/asyncapi.json` as a client reads it: looks up operations and checks values against schemas.

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
                self.difference(&format!("{pointer}/content/{}/schema", escaped(found)), &answer.body)
            }
            (documented, found) => {
                Some(format!("{method} {template} {status} is {found:?}, but {documented:?} is documented"))
            }
        }
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
