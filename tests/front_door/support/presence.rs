//! Who is in a room, as its page says it and as its frames do.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Client;

/// How many there are, and who, by the page that this client sees.
pub async fn participants(client: &Client, goods: i64) -> (Value, Value) {
    let page = client.get(&format!("/goods/{goods}/")).await.body;
    (page["participants_count"].clone(), page["participants"].clone())
}

/// These users, as a page says them.
pub fn people(ids: &[i64]) -> (Value, Value) {
    let people: Vec<Value> = ids.iter().map(|id| json!({"id": id, "user": format!("name{id}")})).collect();
    (json!(people.len()), json!(people))
}

/// Comings and goings of a witness's frames, checked as the existing client needs them: an `out` only of who is there,
/// an `enter` only of who is not, and the count is that of the list.
#[derive(Default)]
pub struct List(pub BTreeSet<i64>);

impl List {
    pub fn hear(&mut self, frame: &Value) {
        let user = frame["user_id"].as_i64().unwrap();
        match frame["response_type"].as_str().unwrap() {
            "enter" => assert!(self.0.insert(user), "he is there already: {frame}"),
            "out" => assert!(self.0.remove(&user), "he is not there: {frame}"),
            _ => panic!("{frame}"),
        }
        assert_eq!(frame["participants_count"].as_u64(), Some(self.0.len() as u64), "{frame}");
    }
}
