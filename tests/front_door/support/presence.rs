//! Who is in a room, by the page of the goods and by frames.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Client;

/// How many users are in the room, and who, by the page that this client gets.
pub async fn participants(client: &Client, goods: i64) -> (Value, Value) {
    let page = client.get(&format!("/goods/{goods}/")).await.body;
    (page["participants_count"].clone(), page["participants"].clone())
}

/// These users as a page lists them.
pub fn listed_users(ids: &[i64]) -> (Value, Value) {
    let listed_users: Vec<Value> = ids.iter().map(|id| json!({"id": id, "user": format!("name{id}")})).collect();
    (json!(listed_users.len()), json!(listed_users))
}

/// The participants that a witness knows from its frames. It checks what the existing client relies on: an `out` is of
/// somebody who is there, an `enter` of somebody who is not, and the count is that of the list.
#[derive(Default)]
pub struct ParticipantList(pub BTreeSet<i64>);

impl ParticipantList {
    pub fn apply(&mut self, frame: &Value) {
        let user = frame["user_id"].as_i64().unwrap();
        match frame["response_type"].as_str().unwrap() {
            "enter" => assert!(self.0.insert(user), "already there: {frame}"),
            "out" => assert!(self.0.remove(&user), "not there: {frame}"),
            _ => panic!("{frame}"),
        }
        assert_eq!(frame["participants_count"].as_u64(), Some(self.0.len() as u64), "{frame}");
    }
}
