//! A bid is judged by its arrival: it counts or not by that moment, whenever the clock ticks and whatever delays the
//! bid afterwards.

use std::{cell::RefCell, time::Duration};

use futures_util::future::{join, join_all};
use handsup::test_support::{
    domain::Timestamp,
    time_source::{SystemTime, TimeSource},
};
use serde_json::{Value, json};

use crate::{
    clock::{SELLER, START, accepted, kinds, newest_alarm_is, noon, page},
    support::{Client, HoldingTime, SilentTime, TestNode, check_answered, check_history, check_outbids, eventually},
};

/// What one client saw of one bid, by the machine's clock.
#[derive(Clone)]
struct Shot {
    sent_at: Timestamp,
    answered_at: Timestamp,
    status: u16,
    code: Option<String>,
    body: Value,
}

/// Bids as fast as answers come, until `auction_ended` was answered five times. The prices of all clients rise
/// together.
async fn fire_through_the_end(client: &Client, goods: i64, price: &RefCell<i64>) -> Vec<Shot> {
    let (mut shots, mut late) = (Vec::new(), 0);
    while late < 5 {
        let next = price.replace_with(|price| *price + 1);
        let sent_at = SystemTime.now();
        let answer = client.bid(goods, next).await;
        let answered_at = SystemTime.now();
        let code = (answer.status != 201).then(|| answer.code().to_owned());
        late += i32::from(code.as_deref() == Some("auction_ended"));
        shots.push(Shot { sent_at, answered_at, status: answer.status, code, body: answer.body });
    }
    shots
}

/// Fault 2: in the origin, 18 of 40 auctions with a bid around their end were opened again, or lost their trade room or
/// price.
#[actix_web::test]
async fn fault_2_bids_around_the_end_are_either_in_time_or_refused() {
    let node = TestNode::start();
    join_all((0..6).map(|auction| bids_around_an_end(&node, 10 + auction * 100))).await;
}

/// One auction of two seconds. `first` is its seller, the users after it are the bidders.
async fn bids_around_an_end(node: &TestNode, first: i64) {
    let goods = node.goods(first, 0, 2).await;
    let ends_at = Timestamp::parse_rfc3339(page(node, goods).await["ends_at"].as_str().unwrap()).unwrap();
    let bidders: Vec<_> = (first + 1..).take(8).map(|id| (id, node.user(id))).collect();
    let price = RefCell::new(1000);
    let shots = join_all(bidders.iter().map(|(_, bidder)| fire_through_the_end(bidder, goods, &price))).await.concat();
    node.wait_until_settled(ends_at).await;

    for shot in &shots {
        match (shot.status, shot.code.as_deref()) {
            (201, _) => assert!(shot.body["created_at"].as_str().unwrap() < ends_at.rfc3339().as_str()),
            (409, Some("bid_too_low")) => {}
            (409, Some("auction_ended")) => assert!(shot.answered_at >= ends_at, "refused too early"),
            _ => panic!("{}", shot.body),
        }
        if shot.sent_at >= ends_at {
            assert_eq!(shot.code.as_deref(), Some("auction_ended"), "sent after the end: {}", shot.body);
        }
    }
    let answered: Vec<&Value> = shots.iter().filter(|shot| shot.status == 201).map(|shot| &shot.body).collect();
    let history = node.visitor().history(goods).await;
    check_history(&history);
    check_answered(&history, answered.iter().copied());
    assert_eq!(history.len(), answered.len(), "every client got the answer to each of their accepted bids");
    check_outbids(goods, &history, &bidders).await;

    let last = history.last().expect("some bids were in time");
    let shown = page(node, goods).await;
    assert_eq!((&shown["status"], &shown["high_price"]), (&json!(false), &last["price"]));
    assert_eq!(shown["buyer"]["id"], last["user_id"]);
    assert!(shown["trade_room"].is_i64());
    assert_eq!(kinds(&node.user(first), goods).await, ["auction_sold"]);
    for (id, bidder) in &bidders {
        let mut received = kinds(bidder, goods).await;
        let has_bid = history.iter().any(|bid| bid["user_id"] == *id);
        let end = if last["user_id"] == *id { "auction_won" } else { "auction_lost" };
        // The alarm about the end comes last, to everybody who has bid.
        assert_eq!(received.pop().as_deref(), has_bid.then_some(end));
        assert!(received.iter().all(|kind| kind == "outbid"), "{received:?}");
    }
}

/// Fault 12: in the origin a bid counted until the clock's next minute. Here the clock does not tick at all.
#[actix_web::test]
async fn fault_12_a_bid_is_judged_by_its_arrival_and_not_by_the_clocks_tick() {
    let time = SilentTime::at(noon());
    let node = TestNode::with_time(time.clone(), |_| {});
    let (starts_at, ends_at) = (noon().plus_ms(10_000), noon().plus_ms(20_000));
    let goods = node.goods(SELLER, 10_000, 10).await;
    let [seller, liker, bidder, admin] = [node.user(SELLER), node.user(2), node.user(3), node.admin()];
    liker.like(goods).await;
    let clock = || async { admin.get("/admin/health").await.body["checks"]["auction_clock"].take() };
    // The clock has read these goods. From here on no timer makes it tick again.
    eventually("the clock knows", || async { (clock().await["agenda"] == 2).then_some(()) }).await;

    let microsecond_before = |at: Timestamp| Timestamp::from_micros(at.micros() - 1);
    time.set(microsecond_before(starts_at));
    assert_eq!(bidder.bid(goods, 1000).await.code(), "auction_not_started");
    assert_eq!(liker.inbox_kinds().await, []);

    time.set(starts_at);
    let first = accepted(&bidder, goods, 1000).await;
    assert_eq!(first["created_at"], "2026-11-22T12:00:10.000Z");
    // Stored in the bid's transaction, so there is nothing to wait for.
    newest_alarm_is(&liker, "auction_started", START, goods, json!({"ends_at": ends_at, "start_price": 1000})).await;
    assert_eq!(page(&node, goods).await["status"], true);

    time.set(ends_at.plus_ms(-1));
    assert_eq!(accepted(&bidder, goods, 2000).await["created_at"], "2026-11-22T12:00:19.999Z");
    time.set(microsecond_before(ends_at));
    let last = accepted(&bidder, goods, 3000).await;
    assert_eq!(last["created_at"], "2026-11-22T12:00:19.999Z", "truncated, never rounded");
    for (late_ms, price) in [(0, 4000), (1, 4000), (60_000, 1)] {
        time.set(ends_at.plus_ms(late_ms));
        assert_eq!(bidder.bid(goods, price).await.code(), "auction_ended", "{late_ms} ms late");
    }
    assert_eq!(page(&node, goods).await["status"], true, "the clock has not ended it");
    assert_eq!(clock().await["last_tick"], noon().rfc3339(), "it has not ticked");

    time.wake();
    node.wait_until_settled(ends_at).await;
    let shown = page(&node, goods).await;
    assert_eq!((&shown["status"], &shown["high_price"]), (&json!(false), &json!(3000)));
    assert_eq!(kinds(&liker, goods).await, ["auction_started"]);
    assert_eq!(kinds(&bidder, goods).await, ["auction_won"]);
    assert_eq!(kinds(&seller, goods).await, ["auction_sold"]);
}

/// The state after a downtime, with a bid that arrives before the clock has ticked.
#[actix_web::test]
async fn a_bid_does_not_start_an_auction_whose_whole_time_has_passed() {
    let time = SilentTime::at(noon());
    let node = TestNode::with_time(time.clone(), |_| {});
    let goods = node.goods(SELLER, 10_000, 10).await;
    let [liker, bidder] = [node.user(2), node.user(3)];
    liker.like(goods).await;
    time.set(noon().plus_ms(20_000));
    assert_eq!(bidder.bid(goods, 1000).await.code(), "auction_ended");
    assert_eq!(page(&node, goods).await["status"], Value::Null);
    time.wake();
    node.wait_until_settled(noon().plus_ms(20_000)).await;
    assert_eq!(page(&node, goods).await["status"], false);
    assert_eq!(liker.inbox_kinds().await, []);
    assert_eq!(kinds(&node.user(SELLER), goods).await, ["auction_unsold"]);
}

/// The thread that has just read the time for a bid is held up until long after the end, as on a busy machine.
#[actix_web::test]
async fn a_bid_that_arrives_in_time_counts_even_if_the_end_is_due_before_it_is_judged() {
    let time = HoldingTime::at(noon());
    // The end in one process waits for that process's own pending bids. For bids at other nodes there is a grace.
    let node = TestNode::alone_with_time(time.clone(), |_| {});
    let goods = node.goods(SELLER, 0, 10).await;
    let (early, held) = (node.user(2), node.user(3));
    node.wait_until_settled(noon()).await;
    accepted(&early, goods, 1000).await;
    // The node knows this user now, so only the token check and the bid itself read the time.
    assert_eq!(held.inbox_kinds().await, []);

    time.set(noon().plus_ms(9_999));
    // The token check passes, and the arrival is held.
    time.hold_worker_after(1);
    let move_on = async {
        eventually("the bid's arrival", || async { time.holds().then_some(()) }).await;
        time.set(noon().plus_ms(60_000));
        // As long as the bid is held up, the end waits. One that does not wait would come within milliseconds.
        let end = eventually("the end", || async { (page(&node, goods).await["status"] == false).then_some(()) });
        let ended = tokio::time::timeout(Duration::from_millis(300), end).await;
        time.release();
        assert!(ended.is_err(), "the end has passed a bid that came before it");
    };
    let (answer, ()) = join(held.bid(goods, 2000), move_on).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    assert_eq!(answer.body["created_at"], "2026-11-22T12:00:09.999Z");
    node.wait_until_settled(noon().plus_ms(60_000)).await;
    assert_eq!(kinds(&held, goods).await, ["auction_won"]);
    assert_eq!(kinds(&early, goods).await, ["outbid", "auction_lost"]);
}
