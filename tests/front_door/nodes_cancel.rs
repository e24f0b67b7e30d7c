//! A cancel at one node is heard at all nodes, with and without their Redis.

use serde_json::json;

use crate::{
    clock::{SELLER, accepted, noon},
    nodes_rooms::{next_event, receive_bids_up_to, watchers},
    support::{ManualTime, Nodes, can_run_several_nodes, without_time},
};

#[actix_web::test]
async fn a_cancel_ends_the_auction_at_every_node() {
    if !can_run_several_nodes() {
        return;
    }
    let mut nodes = Nodes::start(2).await;
    let ended =
        json!({"response_type": "ended", "buyer_id": null, "buyer_name": null, "high_price": 0, "reason": "cancelled"});
    for with_redis in [true, false] {
        let goods = nodes[0].live_goods(SELLER).await;
        let mut rooms = watchers(&nodes, goods).await;
        accepted(&nodes[0].user(2), goods, 1000).await;
        accepted(&nodes[1].user(3), goods, 2000).await;
        for room in &mut rooms {
            receive_bids_up_to(room, 2).await;
        }
        let mut alarms = nodes[1].user(2).socket_since(i64::MAX).await;
        alarms.expect_frame("hello").await;
        if !with_redis {
            nodes.redis.kill();
        }
        let cancelled = nodes[0].admin().post(&format!("/admin/goods/{goods}/cancel"), &json!({})).await;
        assert_eq!(cancelled.status, 200, "{}", cancelled.text);
        for node in nodes.iter() {
            for price in [1500, 9000] {
                assert_eq!(node.user(4).bid(goods, price).await.code(), "auction_ended");
            }
        }
        for room in &mut rooms {
            assert_eq!(without_time(next_event(room).await), ended, "with Redis: {with_redis}");
        }
        alarms.expect_alarm("auction_cancelled").await;
    }
}

/// Neither node's clock does anything more, and nobody hears of a start.
#[actix_web::test]
async fn a_cancelled_auction_starts_at_no_node_although_the_bus_was_silent() {
    if !can_run_several_nodes() {
        return;
    }
    let time = ManualTime::at(noon());
    let mut nodes = Nodes::with_time(2, time.clone(), |_| {}).await;
    let goods = nodes[0].goods(SELLER, 10_000, 600).await;
    nodes[0].user(2).like(goods).await;
    let mut rooms = watchers(&nodes, goods).await;
    nodes.redis.kill();
    assert_eq!(nodes[0].admin().post(&format!("/admin/goods/{goods}/cancel"), &json!({})).await.status, 200);
    for room in &mut rooms {
        assert_eq!(next_event(room).await["reason"], "cancelled");
    }
    let other = nodes[1].goods(SELLER, 10_000, 60).await;
    for after_ms in [10_000, 11_000, 12_000, 70_000, 71_000, 72_000, 610_000, 611_000, 612_000] {
        time.set(noon().plus_ms(after_ms));
    }
    crate::support::wait_for_end(&nodes[1], other).await;
    let kinds = nodes[0].user(2).inbox_kinds().await;
    assert_eq!(kinds, [("auction_cancelled".to_owned(), goods)]);
    for (node, room) in nodes.iter().zip(&mut rooms) {
        let mut author = node.user(3).room(goods).await;
        author.expect_frame("enter").await;
        author.send_json(&json!({"is_money": false, "message": "hello"})).await;
        assert_eq!(next_event(room).await["message"], "hello", "nothing came in between");
        author.close().await;
    }
}
