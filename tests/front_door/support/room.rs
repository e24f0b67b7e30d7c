//! Frames that clients send into rooms, and their effects.

use serde_json::{Map, Value, json};

use super::{Client, ManualTime, TestNode, eventually};

/// A bid as the existing client sends it.
pub fn bid_frame(goods: i64, user: i64, price: i64) -> Value {
    json!({"is_money": true, "goods_id": goods.to_string(), "user_id": user, "message": price})
}

/// A line as the existing client sends it.
pub fn line_frame(goods: i64, user: i64, text: &str) -> Value {
    json!({"is_money": false, "goods_id": goods.to_string(), "user_id": user, "message": text})
}

/// A trade message as the existing client sends it.
pub fn trade_frame(goods: i64, user: i64, text: &str) -> Value {
    json!({"user_id": user, "goods_id": goods.to_string(), "message": text})
}

/// The keys of a frame, sorted.
pub fn keys(frame: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = frame.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

/// The figures of `sessions` in `/admin/health`, summed over the nodes of these admins. A socket is on one node; a user
/// or a room may be on several, and counts once for each.
pub async fn session_figures(admins: &[Client]) -> Value {
    let mut all = Map::new();
    for admin in admins {
        for (figure, of_node) in admin.get("/admin/health").await.body["checks"]["sessions"].as_object().unwrap() {
            if let Some(of_node) = of_node.as_i64() {
                let sum = all.get(figure).and_then(Value::as_i64).unwrap_or(0) + of_node;
                all.insert(figure.clone(), sum.into());
            }
        }
    }
    Value::Object(all)
}

/// Goods of user 1 that user 2 has bought for 7000.
pub async fn sold_goods(node: &TestNode, time: &ManualTime) -> i64 {
    let goods = node.goods(1, 0, 60).await;
    assert_eq!(node.user(2).bid(goods, 7000).await.status, 201);
    time.advance_ms(60_000);
    wait_for_end(node, goods).await;
    goods
}

/// Waits until the clock has ended these goods.
pub async fn wait_for_end(node: &TestNode, goods: i64) {
    let (visitor, page) = (node.visitor(), format!("/goods/{goods}/"));
    eventually("the end", || async { (visitor.get(&page).await.body["status"] == false).then_some(()) }).await;
}
