//! `GET /admin/audit`: every admin call that changes something is kept, and nothing that anybody wrote.

use serde_json::{Value, json};

use crate::support::{TestNode, database, has_exactly, is_instant};

/// All entries of the audit.
pub async fn audit(node: &TestNode) -> Vec<Value> {
    node.admin().get("/admin/audit?limit=200").await.body["results"].as_array().expect("entries").clone()
}

#[actix_web::test]
async fn every_change_is_kept_with_who_when_what_and_on_what_but_no_value() {
    let node = TestNode::start();
    let admin = node.admin();
    let said = json!({"username": "secret-name", "profile_image": "/media/secret.png", "rating_score": 4711});
    for (user, body) in [(7, said), (7, json!({"is_active": false})), (8, json!({"is_active": true}))] {
        assert_eq!(admin.put(&format!("/admin/users/{user}"), &body).await.status, 200);
    }
    let entries = audit(&node).await;
    let actions: Vec<_> =
        entries.iter().map(|entry| (&entry["action"], &entry["target_id"], &entry["fields"])).collect();
    let expected = [
        (json!("user.change"), json!(7), json!(["username", "profile_image", "rating_score"])),
        (json!("user.deactivate"), json!(7), json!(["is_active"])),
        (json!("user.activate"), json!(8), json!(["is_active"])),
    ];
    assert_eq!(actions, expected.iter().map(|(action, on, fields)| (action, on, fields)).collect::<Vec<_>>());
    for (entry, id) in entries.iter().zip(1..) {
        has_exactly(entry, vec!["id", "created_at", "admin_id", "action", "target", "target_id", "fields"]);
        assert_eq!((&entry["id"], &entry["admin_id"], &entry["target"]), (&json!(id), &json!(999), &json!("user")));
        assert!(is_instant(&entry["created_at"]), "{entry}");
    }
    let node = node.restart();
    assert_eq!(audit(&node).await, entries, "kept over a restart");
    let text = node.admin().get("/admin/audit").await.text;
    for value in ["secret", "4711"] {
        assert!(!text.contains(value), "{text}");
    }
}

#[actix_web::test]
async fn what_changes_nothing_is_not_kept() {
    let node = TestNode::start();
    let admin = node.admin();
    for body in [json!({"is_active": 1}), json!({"username": ""}), json!({"username": "x", "rating_score": -1})] {
        assert_eq!(admin.put("/admin/users/7", &body).await.status, 422, "{body}");
    }
    assert_eq!(admin.put("/admin/users/x", &json!({"is_active": false})).await.status, 404);
    assert_eq!(node.user(2).put("/admin/users/7", &json!({"is_active": false})).await.status, 403);
    assert_eq!(node.visitor().put("/admin/users/7", &json!({"is_active": false})).await.status, 401);
    admin.get("/admin/health").await;
    let answer = admin.get("/admin/audit").await;
    assert_eq!((answer.status, answer.body), (200, json!({"results": [], "next_after": null})));
}

#[actix_web::test]
async fn the_audit_comes_in_pages() {
    let node = TestNode::start();
    for user in 1..=5 {
        assert_eq!(node.admin().put(&format!("/admin/users/{user}"), &json!({"rating_score": 1})).await.status, 200);
    }
    let (mut seen, mut after) = (Vec::new(), Some(0));
    while let Some(last) = after {
        let page = node.admin().get(&format!("/admin/audit?limit=2&after={last}")).await.body;
        let ids = page["results"].as_array().unwrap().iter().map(|entry| entry["target_id"].as_i64().unwrap());
        seen.push(ids.collect::<Vec<_>>());
        after = page["next_after"].as_i64();
    }
    assert_eq!(seen, [vec![1, 2], vec![3, 4], vec![5]]);
    let beyond = node.admin().get("/admin/audit?after=99999999999999999999").await;
    assert_eq!(beyond.body, json!({"results": [], "next_after": null}));
    for query in ["after=x", "after=-1", "after=", "limit=0", "limit=x", "limit=1.5"] {
        let answer = node.admin().get(&format!("/admin/audit?{query}")).await;
        assert_eq!((answer.status, answer.code()), (422, "invalid_value"), "{query}");
    }
}

#[actix_web::test]
async fn the_audit_is_for_admins_alone() {
    let node = TestNode::start();
    assert_eq!(node.visitor().get("/admin/audit").await.code(), "unauthorized");
    assert_eq!(node.client(Some("bad".into())).get("/admin/audit").await.code(), "unauthorized");
    assert_eq!(node.user(2).get("/admin/audit").await.code(), "forbidden");
    assert_eq!(node.admin().post("/admin/audit", &json!({})).await.code(), "method_not_allowed");
}

#[actix_web::test]
async fn a_change_that_cannot_be_kept_is_not_made() {
    let node = TestNode::start();
    let admin = node.admin();
    assert_eq!(admin.put("/admin/users/7", &json!({"username": "before"})).await.status, 200);
    database::run(&database::default_path(node.folder()), "ALTER TABLE audit RENAME TO away");
    let refused = admin.put("/admin/users/7", &json!({"is_active": false})).await;
    assert_eq!((refused.status, refused.code()), (503, "unavailable"));
    database::run(&database::default_path(node.folder()), "ALTER TABLE away RENAME TO audit");
    assert_eq!(node.user(7).get("/alarms/unread").await.status, 200, "still active");
    assert_eq!(admin.put("/admin/users/7", &json!({"is_active": false})).await.status, 200);
    assert_eq!(audit(&node).await.len(), 2);
}
