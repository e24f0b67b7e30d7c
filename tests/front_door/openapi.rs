//! `GET /openapi.json`: who gets it, and that its examples fit its schemas. `protocol_doc` holds it against what the
//! service answers, `src/http/openapi.rs` against the routes of the app.

use std::{fs, path::PathBuf};

use awc::http::Method;
use serde_json::Value;

use crate::support::{
    Answer, Client, Described, TestNode, claims,
    database::{self, Stopped},
    escaped, eventually, signed,
};

/// Each JSON pointer of a schema with the examples beside it.
fn examples(document: &Value) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    collect(document, String::new(), &mut found);
    found
}

fn collect(value: &Value, at: String, found: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(fields) => {
            let beside = fields.get("examples").and_then(Value::as_object).into_iter().flat_map(|named| named.values());
            let beside = beside.map(|named| &named["value"]).chain(fields.get("example"));
            if fields.contains_key("schema") {
                found.extend(beside.map(|example| (format!("{at}/schema"), example.clone())));
            } else if let Some(example) = fields.get("example").filter(|_| fields.contains_key("type")) {
                found.push((at.clone(), example.clone()));
            }
            for (key, value) in fields {
                collect(value, format!("{at}/{}", escaped(key)), found);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                collect(value, format!("{at}/{index}"), found);
            }
        }
        _ => {}
    }
}

/// Asserts that each example of a document fits its schema.
pub fn check_examples(described: &Described, at_least: usize) {
    let examples = examples(described.document());
    assert!(examples.len() >= at_least, "{} examples", examples.len());
    let wrong: Vec<String> = examples.iter().filter_map(|(at, example)| described.difference(at, example)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer.headers.get(name).unwrap_or_else(|| panic!("{name}: {answer:?}")).to_str().unwrap()
}

/// The database server is stopped, or the file of the database is moved away, until this is dropped.
pub enum DatabaseGone {
    Server { _stopped: Stopped },
    File(PathBuf),
}

impl DatabaseGone {
    pub fn of(node: &TestNode) -> Self {
        if database::server().is_some() {
            return Self::Server { _stopped: Stopped::server_of(node.folder()) };
        }
        let file = node.database();
        fs::rename(&file, file.with_extension("away")).unwrap();
        Self::File(file)
    }
}

impl Drop for DatabaseGone {
    fn drop(&mut self) {
        if let Self::File(file) = self {
            fs::rename(file.with_extension("away"), file).unwrap();
        }
    }
}

async fn get(client: &Client, path: &str, if_none_match: &str) -> Answer {
    client.send_with(Method::GET, path, None, &[("If-None-Match", if_none_match)]).await
}

/// Asserts that anybody gets this, that caches keep it, and that a bad token is refused.
pub async fn check_public(path: &str, content_type: &str) {
    let node = TestNode::start();
    let visitor = node.visitor();
    let first = visitor.get(path).await;
    assert_eq!((first.status, header(&first, "content-type")), (200, content_type));
    assert_eq!(header(&first, "cache-control"), "public, no-cache");
    let tag = header(&first, "etag").to_owned();
    for known in [tag.as_str(), &format!("W/{tag}"), &format!("\"other\", {tag}"), "*"] {
        let again = get(&visitor, path, known).await;
        assert_eq!((again.status, again.text.as_str(), header(&again, "etag")), (304, "", tag.as_str()), "{known}");
    }
    for unknown in ["\"other\"", "", "no tag", "\u{ff}"] {
        let again = get(&visitor, path, unknown).await;
        assert_eq!((again.status, &again.text), (200, &first.text), "{unknown}");
    }
    let head = visitor.send(Method::HEAD, path, None).await;
    assert_eq!((head.status, head.text.as_str(), header(&head, "etag")), (200, "", tag.as_str()));
    for client in [node.user(2), node.admin()] {
        assert_eq!(client.get(&format!("{path}/?x=1")).await.text, first.text, "also with a slash and a query");
    }
    let expired = signed(&claims(&2.into(), node.now().plus_ms(-7_200_000), &serde_json::json!({})));
    for bad in ["no token", expired.as_str()] {
        assert_eq!(node.client(Some(bad.to_owned())).get(path).await.code(), "unauthorized");
    }
    assert_eq!(visitor.post(path, &Value::Null).await.code(), "method_not_allowed");

    // A user whom an admin has made inactive, and the database that is down.
    let inactive = node.user(3);
    assert_eq!(inactive.get(path).await.status, 200);
    assert_eq!(node.admin().put("/admin/users/3", &serde_json::json!({"is_active": false})).await.status, 200);
    node.soon("the refusal", || async { (inactive.get(path).await.status == 401).then_some(()) }).await;
    let gone = DatabaseGone::of(&node);
    let reads = node.visitor();
    eventually("nothing is read", || async { (reads.get("/goods/").await.status == 503).then_some(()) }).await;
    for client in [&visitor, &node.user(2), &node.user(4), &node.admin()] {
        let answer = client.get(path).await;
        assert_eq!((answer.status, &answer.text), (200, &first.text), "the database is down");
    }
    drop(gone);
}

#[actix_web::test]
async fn anybody_gets_the_document_also_without_a_database_and_caches_keep_it() {
    check_public("/openapi.json", "application/json").await;
}

#[actix_web::test]
async fn every_example_fits_its_schema() {
    let node = TestNode::start();
    let described = Described::new(node.visitor().get("/openapi.json").await.body);
    assert_eq!(described.document()["openapi"], "3.1.0");
    check_examples(&described, 100);
}
