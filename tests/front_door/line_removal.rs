//! `DELETE /admin/lines/{id}`: a line of an auction room goes for everybody.

use serde_json::{Value, json};

use crate::{
    audit::audit,
    clock::SELLER,
    nodes_rooms::{next_event, watchers},
    support::{Nodes, TestNode, can_run_several_nodes, line_frame, without_time},
};

async fn lines(node: &TestNode, goods: i64) -> Vec<Value> {
    let page = node.visitor().get(&format!("/goods/{goods}/chat/")).await;
    page.body.as_array().expect("lines").iter().map(|line| line["content"].clone()).collect()
}

#[actix_web::test]
async fn a_removed_line_goes_for_everybody() {
    let node = TestNode::start();
    let goods = node.live_goods(1).await;
    let mut watcher = node.visitor().room(goods).await;
    let mut author = node.user(2).room(goods).await;
    author.expect_frame("enter").await;
    let mut ids = Vec::new();
    for text in ["one", "rude", "three"] {
        author.send_json(&line_frame(goods, 2, text)).await;
        let (frame, same) = (author.expect_frame("message").await, next_event(&mut watcher).await);
        assert_eq!(frame, same);
        ids.push(frame["id"].as_i64().expect("an id"));
    }
    let listed = node.visitor().get(&format!("/goods/{goods}/chat/")).await.body;
    assert_eq!(listed[1]["id"], ids[1], "the list has the same ids");
    let path = format!("/admin/lines/{}", ids[1]);
    let answer = node.admin().delete(&path).await;
    assert_eq!((answer.status, answer.text.as_str()), (204, ""));
    let removed = json!({"response_type": "removed", "id": ids[1]});
    assert_eq!(without_time(author.next().await), removed);
    assert_eq!(without_time(next_event(&mut watcher).await), removed);
    assert_eq!(lines(&node, goods).await, ["three", "one"]);
    let again = node.admin().delete(&path).await;
    assert_eq!((again.status, again.code()), (404, "not_found"));
    author.send_json(&line_frame(goods, 2, "four")).await;
    assert_eq!(next_event(&mut watcher).await["message"], "four", "nothing came in between");
    let kept = audit(&node).await;
    assert_eq!(kept.len(), 1);
    assert_eq!(
        (&kept[0]["action"], &kept[0]["target"], &kept[0]["target_id"]),
        (&json!("line.remove"), &json!("line"), &json!(ids[1]))
    );
    let node = node.restart();
    assert_eq!(lines(&node, goods).await, ["four", "three", "one"]);
}

#[actix_web::test]
async fn wrong_removals_remove_nothing() {
    let node = TestNode::start();
    let goods = node.live_goods(1).await;
    let mut author = node.user(2).room(goods).await;
    author.expect_frame("enter").await;
    author.send_json(&line_frame(goods, 2, "mine")).await;
    let line = author.expect_frame("message").await["id"].as_i64().unwrap();
    let path = format!("/admin/lines/{line}");
    assert_eq!(node.visitor().delete(&path).await.code(), "unauthorized");
    assert_eq!(node.user(2).delete(&path).await.code(), "forbidden", "not even one's own");
    for id in ["0", "-1", "x", "01", "99", "9007199254740992", "1.0", "%00"] {
        assert_eq!(node.admin().delete(&format!("/admin/lines/{id}")).await.code(), "not_found", "{id}");
    }
    assert_eq!(node.admin().get(&path).await.code(), "method_not_allowed");
    assert_eq!(lines(&node, goods).await, ["mine"]);
    assert_eq!(audit(&node).await, [Value::Null; 0]);
}

/// Promise 6: what the bus loses is read from the store.
#[actix_web::test]
async fn a_removal_reaches_every_node_with_redis_and_without() {
    if !can_run_several_nodes() {
        return;
    }
    let mut nodes = Nodes::start(2).await;
    let goods = nodes[0].live_goods(SELLER).await;
    let mut rooms = watchers(&nodes, goods).await;
    let mut author = nodes[0].user(2).room(goods).await;
    author.expect_frame("enter").await;
    let mut ids = Vec::new();
    for text in ["one", "two", "three"] {
        author.send_json(&line_frame(goods, 2, text)).await;
        ids.push(author.expect_frame("message").await["id"].as_i64().unwrap());
        for room in &mut rooms {
            assert_eq!(next_event(room).await["message"], text);
        }
    }
    for (with_redis, line) in [(true, ids[2]), (false, ids[0])] {
        if !with_redis {
            nodes.redis.kill();
        }
        assert_eq!(nodes[1].admin().delete(&format!("/admin/lines/{line}")).await.status, 204);
        for room in &mut rooms {
            let removed = json!({"response_type": "removed", "id": line});
            assert_eq!(without_time(next_event(room).await), removed, "with Redis: {with_redis}");
        }
    }
    author.send_json(&line_frame(goods, 2, "four")).await;
    for room in &mut rooms {
        assert_eq!(next_event(room).await["message"], "four", "each removal comes once");
    }
}
