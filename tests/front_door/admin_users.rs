//! `GET /admin/users`, `GET /admin/users/{id}`, and what `PUT /admin/users/{id}` does not take.

use serde_json::{Value, json};

use crate::support::{Market, Nodes, TestNode, can_run_several_nodes, eventually, has_exactly};

fn ids(page: &Value) -> Vec<i64> {
    page["results"].as_array().expect("users").iter().map(|user| user["id"].as_i64().unwrap()).collect()
}

#[actix_web::test]
async fn users_are_listed_in_pages_and_found_by_name_or_id() {
    let node = TestNode::start();
    let admin = node.admin();
    for (id, name) in [(3, "Mina"), (4, "민아"), (5, "minamoto"), (50, "joon"), (i64::MAX, "100%_'\"")] {
        let answer = admin.put(&format!("/admin/users/{id}"), &json!({"username": name})).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    // The admin is a user too.
    assert_eq!(ids(&admin.get("/admin/users").await.body), [3, 4, 5, 50, 999, i64::MAX]);
    let (mut seen, mut after) = (Vec::new(), Some(0));
    while let Some(last) = after {
        let page = admin.get(&format!("/admin/users?limit=2&after={last}")).await.body;
        seen.push(ids(&page));
        after = page["next_after"].as_i64();
    }
    assert_eq!(seen, [vec![3, 4], vec![5, 50], vec![999, i64::MAX]]);
    for (search, found) in [
        ("mina", &[3, 5][..]),
        ("MINA", &[3, 5]),
        ("%EB%AF%BC", &[4]),
        ("50", &[50]),
        ("5", &[5]),
        ("100%25_", &[i64::MAX]),
        ("%25", &[i64::MAX]),
        ("'", &[i64::MAX]),
        ("nobody", &[]),
        ("", &[3, 4, 5, 50, 999, i64::MAX]),
    ] {
        let page = admin.get(&format!("/admin/users?search={search}")).await.body;
        assert_eq!(ids(&page), found, "{search}");
        assert_eq!(page["next_after"], json!(null));
    }
    let first = &admin.get("/admin/users?search=mina&limit=1").await.body;
    assert_eq!((ids(first), &first["next_after"]), (vec![3], &json!(3)));
    has_exactly(&first["results"][0], vec!["id", "username", "profile_image", "rating_score", "is_active"]);
    for query in ["after=x", "after=-1", "limit=0", "limit=x", "search=%00", &format!("search={}", "x".repeat(151))] {
        let answer = admin.get(&format!("/admin/users?{query}")).await;
        assert_eq!((answer.status, answer.code()), (422, "invalid_value"), "{query}");
    }
    assert_eq!(ids(&admin.get("/admin/users?after=99999999999999999999").await.body), [0; 0]);
}

#[actix_web::test]
async fn a_user_is_shown_with_sockets_unread_alarms_and_goods_that_they_lead() {
    let node = TestNode::start();
    let (admin, bidder) = (node.admin(), node.user(2));
    let (led, lost, over) = (node.live_goods(1).await, node.live_goods(1).await, node.live_goods(1).await);
    for goods in [led, lost, over] {
        assert_eq!(bidder.bid(goods, 1000).await.status, 201);
    }
    assert_eq!(node.user(3).bid(lost, 2000).await.status, 201);
    assert_eq!(admin.post(&format!("/admin/goods/{over}/cancel"), &json!({})).await.status, 200);
    let shown = admin.get("/admin/users/2").await;
    assert_eq!(shown.status, 200, "{}", shown.text);
    let ends_at = node.visitor().get(&format!("/goods/{led}/")).await.body["ends_at"].clone();
    let expected = json!({
        "id": 2, "username": "name2", "profile_image": "/media/default.jpeg", "rating_score": 40, "is_active": true,
        "sockets": 0, "unread": 2,
        "leads": [{"goods_id": led, "title": "camera", "high_price": 1000, "ends_at": ends_at}],
    });
    assert_eq!(shown.body, expected);
    // An alarm socket and rooms, on whichever nodes.
    let mut sockets = vec![bidder.socket().await, bidder.room(led).await, bidder.room(lost).await];
    for admin in node.admins() {
        let all = || async { (admin.get("/admin/users/2/").await.body["sockets"] == 3).then_some(()) };
        node.soon("all sockets are counted", all).await;
    }
    sockets.pop().unwrap().close().await;
    let two = || async { (admin.get("/admin/users/2").await.body["sockets"] == 2).then_some(()) };
    eventually("one is closed", two).await;
    assert_eq!(admin.put("/admin/users/2", &json!({"is_active": false})).await.status, 200);
    let none = || async {
        let user = admin.get("/admin/users/2").await.body;
        (user["sockets"] == 0 && user["is_active"] == false).then_some(user)
    };
    let user = eventually("all are closed", none).await;
    assert_eq!(user["leads"], expected["leads"], "the lead stays");
    for id in ["77", "0", "-1", "x", "01", "9223372036854775808", "%00"] {
        let answer = admin.get(&format!("/admin/users/{id}")).await;
        assert_eq!((answer.status, answer.code()), (404, "not_found"), "{id}");
    }
}

/// Sockets of a node that was killed don't count, and without Redis a node knows its own.
#[actix_web::test]
async fn a_users_sockets_are_counted_over_all_nodes() {
    if !can_run_several_nodes() {
        return;
    }
    let mut nodes = Nodes::start(2).await;
    let _here = nodes[0].user(2).socket().await;
    let _there = [nodes[1].user(2).socket().await, nodes[1].user(2).socket().await];
    for node in nodes.iter() {
        let counted = || async { (node.admin().get("/admin/users/2").await.body["sockets"] == 3).then_some(()) };
        eventually("three sockets", counted).await;
    }
    nodes.redis.kill();
    nodes.wait_for_bus_status("warn").await;
    for (node, own) in nodes.iter().zip([1, 2]) {
        let counted = || async { (node.admin().get("/admin/users/2").await.body["sockets"] == own).then_some(()) };
        eventually("its own sockets", counted).await;
    }
}

#[actix_web::test]
async fn bids_cannot_be_voided_yet_and_such_a_body_changes_nothing() {
    let node = TestNode::start();
    let admin = node.admin();
    for void in [json!(true), json!(1), json!("true"), json!([]), json!({})] {
        let answer = admin.put("/admin/users/2", &json!({"is_active": false, "void_bids": void})).await;
        assert_eq!((answer.status, &answer.body["field"]), (422, &json!("void_bids")), "{void}");
    }
    assert_eq!(admin.get("/admin/users/2").await.status, 404, "not even created");
    for void in [json!(false), json!(null)] {
        assert_eq!(admin.put("/admin/users/2", &json!({"void_bids": void})).await.status, 200, "{void}");
    }
}

#[actix_web::test]
async fn users_are_listed_to_admins_alone() {
    let node = TestNode::start();
    for path in ["/admin/users", "/admin/users/1", "/admin/users/x"] {
        assert_eq!(node.visitor().get(path).await.code(), "unauthorized", "{path}");
        assert_eq!(node.user(1).get(path).await.code(), "forbidden", "{path}");
    }
    assert_eq!(node.admin().post("/admin/users", &json!({})).await.code(), "method_not_allowed");
}

/// No index finds a part of a name: one request goes through 20,000 users after the other.
#[actix_web::test]
async fn a_search_among_many_users_finds_them_all() {
    let market = Market::open();
    market.seed().users(10..20_100);
    market.seed().users(90_000..110_000);
    let node = market.serve();
    let (mut found, mut after) = (Vec::new(), Some(0));
    while let Some(last) = after {
        let page = node.admin().get(&format!("/admin/users?search=NAME1000&limit=2&after={last}")).await;
        assert_eq!(page.status, 200, "{}", page.text);
        found.extend(ids(&page.body));
        after = page.body["next_after"].as_i64();
    }
    let expected: Vec<i64> = [1000].into_iter().chain(10_000..10_010).chain(100_000..100_100).collect();
    assert_eq!(found, expected);
}
