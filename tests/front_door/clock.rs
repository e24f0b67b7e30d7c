//! The auction clock: starts, last minutes and ends, each once and with the contract's alarms.
//! ¶ Where a test sets the time, the node's time stands still until the test moves it.

use std::sync::Arc;

use futures_util::{
    StreamExt,
    future::{join, join_all},
    stream,
};
use handsup::test_support::{
    domain::Timestamp,
    time_source::{SystemTime, TimeSource},
};
use serde_json::{Value, json};

use crate::support::{Client, ManualTime, TestNode, eventually, goods_body};

pub const SELLER: i64 = 1;
pub const START: &str = "경매가 시작됐어요";
const SOON: &str = "경매가 곧 끝나요!";
const WON: &str = "낙찰 되었습니다!";
const LOST: &str = "아쉽게 낙찰받지 못했어요";
const SOLD: &str = "상품이 낙찰됐어요!";
const UNSOLD: &str = "입찰 없이 경매가 끝났어요";

/// The start of the tests that set the time.
pub fn noon() -> Timestamp {
    Timestamp::parse_rfc3339("2026-11-22T12:00:00Z").unwrap()
}

fn node_at_noon() -> (TestNode, Arc<ManualTime>) {
    let time = ManualTime::at(noon());
    (TestNode::with_time(time.clone(), |_| {}), time)
}

pub async fn page(node: &TestNode, goods: i64) -> Value {
    node.visitor().get(&format!("/goods/{goods}/")).await.body
}

/// Moves the time and waits until the clock has done what is due.
async fn move_to(node: &TestNode, time: &ManualTime, at: Timestamp) {
    time.set(at);
    node.wait_until_settled(at).await;
}

pub async fn accepted(bidder: &Client, goods: i64, price: i64) -> Value {
    let answer = bidder.bid(goods, price).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    answer.body
}

/// The kinds of a user's alarms about these goods, oldest first.
pub async fn kinds(user: &Client, goods: i64) -> Vec<String> {
    let received = user.inbox_kinds().await.into_iter();
    received.filter(|(_, about)| *about == goods).map(|(kind, _)| kind).collect()
}

/// Asserts that the user's newest alarm has these fields, those that every alarm has, and no others.
pub async fn newest_alarm_is(user: &Client, kind: &str, message: &str, goods: i64, own: Value) {
    let alarm = user.inbox().await.pop().unwrap_or_else(|| panic!("no {kind}"));
    let every = json!({
        "response_type": "alram", "id": alarm["id"], "created_at": alarm["created_at"], "read": false,
        "goods_title": "camera", "kind": kind, "message": message, "goods_id": goods,
    });
    let mut expected = every.as_object().unwrap().clone();
    expected.extend(own.as_object().unwrap().clone());
    assert_eq!(alarm, Value::Object(expected));
}

#[actix_web::test]
async fn users_who_like_the_goods_at_the_start_are_alarmed_and_nobody_else() {
    let (node, time) = node_at_noon();
    let goods = node.goods(SELLER, 10_000, 100).await;
    let [seller, liker, other_liker, fickle, late] = [SELLER, 2, 3, 4, 5].map(|id| node.user(id));
    for user in [&liker, &other_liker, &fickle] {
        user.like(goods).await;
    }
    // Liking twice is liking once.
    liker.like(goods).await;
    assert_eq!(fickle.delete(&format!("/goods/{goods}/like")).await.status, 204);
    let mut socket = liker.socket().await;

    move_to(&node, &time, noon().plus_ms(9_999)).await;
    assert_eq!(page(&node, goods).await["status"], Value::Null);
    assert_eq!(liker.inbox_kinds().await, []);

    time.set(noon().plus_ms(10_000));
    let received = socket.expect_alarm("auction_started").await;
    node.wait_until_settled(noon().plus_ms(10_000)).await;
    late.like(goods).await;
    let shown = page(&node, goods).await;
    assert_eq!((&shown["status"], &shown["buyer"], &shown["high_price"]), (&json!(true), &Value::Null, &json!(0)));
    let own = json!({"ends_at": "2026-11-22T12:01:50.000Z", "start_price": 1000});
    for user in [&liker, &other_liker] {
        newest_alarm_is(user, "auction_started", START, goods, own.clone()).await;
    }
    assert_eq!(received["id"], liker.inbox().await[0]["id"], "the same alarm");
    assert_eq!(received["ends_at"], own["ends_at"]);

    // Nothing more comes, even long after the end.
    move_to(&node, &time, noon().plus_ms(600_000)).await;
    for user in [&liker, &other_liker] {
        assert_eq!(kinds(user, goods).await, ["auction_started"]);
    }
    assert_eq!(kinds(&seller, goods).await, ["auction_unsold"]);
    for user in [&fickle, &late] {
        assert_eq!(user.inbox_kinds().await, []);
    }
}

/// A large audience is served in several transactions. Whatever happens between them must lose and double nothing.
#[actix_web::test]
async fn each_of_many_likers_is_alarmed_once_even_over_a_restart() {
    const FIRST: i64 = 1000;
    const LAST: i64 = 2199;
    let (node, time) = node_at_noon();
    let goods = [node.goods(SELLER, 10_000, 1000).await, node.goods(SELLER, 20_000, 1000).await];
    // What is stored counts, not how fast a busy machine reads 1,200 inboxes.
    let likers = |node: &TestNode| (FIRST..=LAST).map(|id| node.user(id).retrying()).collect::<Vec<_>>();
    let like = |user: Client| async move {
        for goods in goods {
            user.like(goods).await;
        }
    };
    stream::iter(likers(&node)).for_each_concurrent(32, like).await;

    move_to(&node, &time, noon().plus_ms(10_000)).await;
    each_got_one_alarm_per_goods(likers(&node), &goods[..1]).await;
    // Two users change their likes while the second start is still being fanned out: its audience are those who liked
    // the goods at that moment. They wait for the first alarm with open connections, so as to be quick enough.
    let (late, fickle) = (node.user(9000), node.user(LAST));
    assert_eq!((late.inbox_kinds().await.len(), fickle.inbox_kinds().await.len()), (0, 1));
    let mut first = node.user(FIRST).socket_since(i64::MAX).await;
    assert_eq!(first.next().await["response_type"], "hello");
    time.set(noon().plus_ms(20_000));
    first.expect_alarm("auction_started").await;
    let path = format!("/goods/{}/like", goods[1]);
    let ((), unliked) = join(late.like(goods[1]), fickle.delete(&path)).await;
    assert_eq!(unliked.status, 204);
    drop(first);
    let node = node.restart();
    node.wait_until_settled(noon().plus_ms(20_000)).await;
    each_got_one_alarm_per_goods(likers(&node), &goods).await;
    assert_eq!(node.user(9000).inbox_kinds().await, []);
    assert_eq!(page(&node, goods[1]).await["like_count"], LAST - FIRST + 1);
}

/// Asserts that each user's inbox is one `auction_started` for each of these goods, in this order, with rising ids.
async fn each_got_one_alarm_per_goods(users: Vec<Client>, goods: &[i64]) {
    let poll = |user: Client| async move {
        let inbox = user.inbox().await;
        let about: Vec<_> = inbox.iter().map(|alarm| (&alarm["kind"], alarm["goods_id"].as_i64().unwrap())).collect();
        let started = json!("auction_started");
        assert_eq!(about, goods.iter().map(|goods| (&started, *goods)).collect::<Vec<_>>());
        assert!(inbox.is_sorted_by_key(|alarm| alarm["id"].as_i64().unwrap()));
    };
    stream::iter(users).for_each_concurrent(32, poll).await;
}

#[actix_web::test]
async fn at_the_end_buyer_losers_and_seller_get_their_own_alarm_once() {
    let (node, time) = node_at_noon();
    let goods = node.goods(SELLER, 0, 100).await;
    let [seller, winner, loser, other_loser, liker] = [SELLER, 2, 3, 4, 5].map(|id| node.user(id));
    accepted(&loser, goods, 1000).await;
    accepted(&winner, goods, 2000).await;
    accepted(&loser, goods, 3000).await;
    accepted(&other_loser, goods, 4000).await;
    accepted(&winner, goods, 5000).await;
    liker.like(goods).await;
    move_to(&node, &time, noon().plus_ms(99_999)).await;
    assert_eq!(page(&node, goods).await["status"], true);
    let mut socket = winner.socket_since(winner.inbox().await.last().unwrap()["id"].as_i64().unwrap()).await;
    assert_eq!(socket.next().await["response_type"], "hello");

    time.set(noon().plus_ms(100_000));
    let received = socket.expect_alarm("auction_won").await;
    let shown = page(&node, goods).await;
    assert_eq!(shown["status"], false);
    assert_eq!((&shown["buyer"]["id"], &shown["high_price"]), (&json!(2), &json!(5000)));
    let room = &shown["trade_room"];
    assert!(room.as_i64().is_some_and(|room| room > 0), "{shown}");
    let with_room = json!({"high_price": 5000, "trade_room_id": room});
    assert_eq!(received["trade_room_id"], *room);
    newest_alarm_is(&winner, "auction_won", WON, goods, with_room.clone()).await;
    newest_alarm_is(&seller, "auction_sold", SOLD, goods, with_room).await;
    for user in [&loser, &other_loser] {
        newest_alarm_is(user, "auction_lost", LOST, goods, json!({"high_price": 5000})).await;
    }

    // The origin sent it again every minute.
    move_to(&node, &time, noon().plus_ms(300_000)).await;
    let node = node.restart();
    node.wait_until_settled(noon().plus_ms(300_000)).await;
    let received = [SELLER, 2, 3, 4, 5].map(|id| node.user(id));
    assert_eq!(kinds(&received[0], goods).await, ["auction_sold"]);
    assert_eq!(kinds(&received[1], goods).await, ["outbid", "auction_won"]);
    assert_eq!(kinds(&received[2], goods).await, ["outbid", "outbid", "auction_lost"]);
    assert_eq!(kinds(&received[3], goods).await, ["outbid", "auction_lost"]);
    assert_eq!(received[4].inbox_kinds().await, []);
    assert_eq!(page(&node, goods).await["trade_room"], *room, "the same room");
}

/// Fault 3: in the origin the first auction without a bid crashed the clock, and no later one ever ended.
#[actix_web::test]
async fn fault_3_auctions_without_a_bid_end_and_so_do_those_after_them() {
    let (node, time) = node_at_noon();
    let seller = node.user(SELLER);
    let mut goods = Vec::new();
    for lasts_s in [10, 20, 30, 30, 30] {
        goods.push(node.goods(SELLER, 0, lasts_s).await);
    }
    accepted(&node.user(2), goods[1], 1000).await;
    accepted(&node.user(2), goods[3], 1000).await;
    let mut expected = Vec::new();
    for (ends_at_s, ended) in [(10, &goods[..1]), (20, &goods[1..2]), (30, &goods[2..])] {
        move_to(&node, &time, noon().plus_ms(ends_at_s * 1000)).await;
        for goods_id in ended {
            let sold = [goods[1], goods[3]].contains(goods_id);
            expected.push((if sold { "auction_sold" } else { "auction_unsold" }.to_owned(), *goods_id));
            let shown = page(&node, *goods_id).await;
            assert_eq!(shown["status"], false);
            assert_eq!(shown["trade_room"].is_i64(), sold, "{shown}");
            assert_eq!(shown["buyer"].is_object(), sold, "{shown}");
        }
        // The three that end at one moment may end in any order.
        let mut received = seller.inbox_kinds().await;
        received.sort_by_key(|(_, goods)| *goods);
        assert_eq!(received, expected);
    }
    assert_ne!(page(&node, goods[1]).await["trade_room"], page(&node, goods[3]).await["trade_room"]);
    let unsold = seller.inbox().await.into_iter().find(|alarm| alarm["goods_id"] == goods[0]).unwrap();
    assert_eq!((&unsold["kind"], &unsold["message"]), (&json!("auction_unsold"), &json!(UNSOLD)));
    assert_eq!((&unsold["high_price"], &unsold["trade_room_id"]), (&Value::Null, &Value::Null));
    for minutes in 1..4 {
        move_to(&node, &time, noon().plus_ms(30_000 + minutes * 60_000)).await;
    }
    assert_eq!(seller.inbox_kinds().await.len(), expected.len(), "nothing is sent again");
}

#[actix_web::test]
async fn the_last_minute_of_a_long_auction_alarms_likers_and_bidders_once() {
    let (node, time) = node_at_noon();
    let (long, short) = (node.goods(SELLER, 0, 300).await, node.goods(SELLER, 0, 299).await);
    let [liker, bidder, both, other] = [2, 3, 4, 5].map(|id| node.user(id));
    node.wait_until_settled(noon()).await;
    for goods in [long, short] {
        liker.like(goods).await;
        both.like(goods).await;
        accepted(&both, goods, 1000).await;
        accepted(&bidder, goods, 2000).await;
    }
    move_to(&node, &time, noon().plus_ms(239_999)).await;
    assert_eq!(liker.inbox_kinds().await, []);

    move_to(&node, &time, noon().plus_ms(240_000)).await;
    let own = json!({"high_price": 2000, "ends_at": "2026-11-22T12:05:00.000Z"});
    for user in [&liker, &bidder, &both] {
        newest_alarm_is(user, "ending_soon", SOON, long, own.clone()).await;
    }
    // A bid in the last minute sends no second `ending_soon`, and users who bid later get none.
    accepted(&other, long, 3000).await;
    other.like(short).await;
    move_to(&node, &time, noon().plus_ms(270_000)).await;
    let node = node.restart();
    move_to(&node, &time, noon().plus_ms(300_000)).await;
    let [seller, liker, bidder, both, other] = [SELLER, 2, 3, 4, 5].map(|id| node.user(id));
    assert_eq!(kinds(&liker, long).await, ["ending_soon"]);
    assert_eq!(kinds(&bidder, long).await, ["ending_soon", "outbid", "auction_lost"]);
    assert_eq!(kinds(&both, long).await, ["outbid", "ending_soon", "auction_lost"]);
    assert_eq!(kinds(&other, long).await, ["auction_won"]);
    assert_eq!(kinds(&seller, long).await, ["auction_sold"]);
    assert_eq!(kinds(&liker, short).await, [""; 0]);
    assert_eq!(kinds(&bidder, short).await, ["auction_won"]);
    assert_eq!(kinds(&both, short).await, ["outbid", "auction_lost"]);
}

/// After a restart, what was due is done once, and what is not due yet is done in its time.
#[actix_web::test]
async fn starts_and_ends_due_while_the_node_was_down_are_done_once_after_the_restart() {
    let (mut node, time) = node_at_noon();
    let live = node.goods(SELLER, 0, 100).await;
    let long = node.goods(SELLER, 0, 320).await;
    let started = node.goods(SELLER, 50_000, 1000).await;
    let passed = node.goods(SELLER, 50_000, 100).await;
    let (liker, bidder) = (node.user(2), node.user(3));
    node.wait_until_settled(noon()).await;
    for goods in [live, long, started, passed] {
        liker.like(goods).await;
    }
    accepted(&bidder, live, 1000).await;
    assert_eq!(liker.inbox_kinds().await, []);

    node.stop();
    time.set(noon().plus_ms(300_000));
    let mut node = node.restart();
    // The second round finds nothing left to do.
    for _ in 0..2 {
        node.wait_until_settled(node.now()).await;
        let [seller, liker, bidder] = [SELLER, 2, 3].map(|id| node.user(id));
        assert_eq!(kinds(&seller, live).await, ["auction_sold"]);
        assert_eq!(kinds(&bidder, live).await, ["auction_won"]);
        assert_eq!(kinds(&liker, live).await, [""; 0]);
        assert_eq!(kinds(&liker, long).await, ["ending_soon"]);
        assert_eq!(kinds(&liker, started).await, ["auction_started"]);
        assert_eq!(kinds(&seller, passed).await, ["auction_unsold"]);
        assert_eq!(kinds(&liker, passed).await, [""; 0], "no alarm but those of the end");
        let shown = page(&node, passed).await;
        assert_eq!(
            (&shown["status"], &shown["ends_at"], &shown["buyer"], &shown["trade_room"]),
            (&json!(false), &json!("2026-11-22T12:02:30.000Z"), &Value::Null, &Value::Null)
        );
        assert_eq!(bidder.bid(passed, 5000).await.code(), "auction_ended");
        let shown = page(&node, live).await;
        assert_eq!((&shown["status"], &shown["buyer"]["id"]), (&json!(false), &json!(3)));
        node = node.restart();
    }
    let (liker, bidder) = (node.user(2), node.user(3));
    accepted(&bidder, started, 1000).await;
    time.set(noon().plus_ms(990_000));
    let soon = || async { (kinds(&liker, started).await.len() == 2).then_some(()) };
    eventually("the last minute", soon).await;
    move_to(&node, &time, noon().plus_ms(1_050_000)).await;
    assert_eq!(kinds(&node.user(SELLER), started).await, ["auction_sold"]);
    assert_eq!(kinds(&node.user(SELLER), long).await, ["auction_unsold"]);
    assert_eq!(kinds(&liker, started).await, ["auction_started", "ending_soon"]);
    assert_eq!(kinds(&bidder, started).await, ["ending_soon", "auction_won"]);
}

/// A start further ahead than the clock reads, and one that the time jumps over.
#[actix_web::test]
async fn auctions_far_ahead_start_and_end() {
    let (node, time) = node_at_noon();
    let day_ms = 86_400_000;
    // Tokens are valid for an hour, so each step uses new clients.
    let far = node.goods(SELLER, day_ms, 3600).await;
    let jumped = node.goods(SELLER, 2 * day_ms, 60).await;
    node.user(2).like(far).await;
    node.user(2).like(jumped).await;
    move_to(&node, &time, noon().plus_ms(day_ms - 1)).await;
    assert_eq!(page(&node, far).await["status"], Value::Null);
    move_to(&node, &time, noon().plus_ms(day_ms)).await;
    assert_eq!(page(&node, far).await["status"], true);
    assert_eq!(kinds(&node.user(2), far).await, ["auction_started"]);
    move_to(&node, &time, noon().plus_ms(3 * day_ms)).await;
    assert_eq!(kinds(&node.user(2), far).await, ["auction_started"]);
    assert_eq!(kinds(&node.user(2), jumped).await, [""; 0]);
    assert_eq!(node.user(SELLER).inbox_kinds().await.len(), 2, "both ended without a bid");
}

#[actix_web::test]
async fn a_late_bid_moves_the_end_and_the_auction_ends_once_at_the_new_end() {
    let time = ManualTime::at(noon());
    let node = TestNode::with_time(time.clone(), |settings| settings.auction.soft_close_s = 30);
    let (goods, beside) = (node.goods(SELLER, 0, 300).await, node.goods(SELLER, 0, 300).await);
    let [seller, first, second] = [SELLER, 2, 3].map(|id| node.user(id));
    let at = |seconds: i64| noon().plus_ms(seconds * 1000);
    let bid_at = async |bidder: &Client, seconds: i64, price: i64| {
        move_to(&node, &time, at(seconds)).await;
        accepted(bidder, goods, price).await["ends_at"].clone()
    };
    assert_eq!(bid_at(&first, 100, 1000).await, at(300).rfc3339(), "early bids move nothing");
    assert_eq!(bid_at(&first, 270, 2000).await, at(300).rfc3339());
    assert_eq!(bid_at(&first, 290, 3000).await, at(320).rfc3339());
    assert_eq!(first.bid(goods, 3000).await.code(), "bid_too_low", "and a refused one doesn't either");

    // At the old end only the other auction ends.
    assert_eq!(bid_at(&second, 300, 4000).await, at(330).rfc3339());
    assert_eq!(page(&node, beside).await["status"], false);
    let shown = page(&node, goods).await;
    assert_eq!((&shown["status"], &shown["ends_at"]), (&json!(true), &json!(at(330))));
    assert_eq!(
        first.inbox().await.last().unwrap()["ends_at"],
        at(330).rfc3339(),
        "the outbid user's alarm has the new end"
    );

    move_to(&node, &time, noon().plus_ms(329_999)).await;
    assert_eq!(page(&node, goods).await["status"], true);
    time.set(at(330));
    assert_eq!(first.bid(goods, 9000).await.code(), "auction_ended");
    move_to(&node, &time, at(500)).await;
    assert_eq!(page(&node, goods).await["status"], false);
    assert_eq!(kinds(&first, goods).await, ["ending_soon", "outbid", "auction_lost"], "once, though the end moved");
    assert_eq!(kinds(&second, goods).await, ["auction_won"]);
    assert_eq!(kinds(&seller, goods).await, ["auction_sold"]);
}

/// Not a benchmark: the clock is never early, and it is more precise than seconds. The measured delays are printed.
#[actix_web::test]
async fn on_an_idle_node_alarms_of_start_and_end_come_in_time() {
    let node = TestNode::start();
    let (seller, liker) = (node.user(SELLER), node.user(2));
    let (mut ends, mut starts) = (seller.socket().await, liker.socket().await);
    let mut auctions = Vec::new();
    for i in 0..7 {
        let goods = node.goods(SELLER, 1000 + i * 100, 1).await;
        liker.like(goods).await;
        let shown = page(&node, goods).await;
        let time = |field: &str| Timestamp::parse_rfc3339(shown[field].as_str().unwrap()).unwrap();
        auctions.push((goods, time("starts_at"), time("ends_at")));
    }
    for (kind, socket) in [("auction_started", &mut starts), ("auction_unsold", &mut ends)] {
        let mut lags_ms = Vec::new();
        // On a machine that stood still for a moment several are due at once, and may come in any order.
        let mut waiting = auctions.clone();
        while !waiting.is_empty() {
            let alarm = socket.expect_alarm(kind).await;
            let at = waiting.iter().position(|(goods, ..)| alarm["goods_id"] == *goods).expect("each once");
            let (_, starts_at, ends_at) = waiting.remove(at);
            let due = if kind == "auction_started" { starts_at } else { ends_at };
            lags_ms.push(SystemTime.now().ms_since(due));
        }
        lags_ms.sort_unstable();
        eprintln!("{kind}: ms after its time {lags_ms:?}, median {}", lags_ms[lags_ms.len() / 2]);
        assert!(lags_ms.iter().all(|lag| (0..1000).contains(lag)), "{kind}: {lags_ms:?}");
    }
}

/// However many auctions are live, the clock reads the next ones.
#[actix_web::test]
async fn many_long_auctions_delay_no_start() {
    let (node, time) = node_at_noon();
    let seller = node.user(SELLER);
    let long = goods_body(&json!({"starts_at": node.now(), "duration_s": 86_400}));
    // A small number at once: on a loaded machine the last of many writes would exceed its deadline.
    for _ in 0..55 {
        let made = join_all((0..20).map(|_| seller.post("/goods/", &long))).await;
        assert!(made.iter().all(|answer| answer.status == 201));
    }
    let late = node.goods(SELLER, 30 * 60_000, 60).await;
    node.user(2).like(late).await;
    for minute in 1..=31 {
        move_to(&node, &time, noon().plus_ms(minute * 60_000)).await;
    }
    assert_eq!(kinds(&node.user(2), late).await, ["auction_started"]);
    assert_eq!(page(&node, late).await["status"], false);
}

/// A machine's clock that is set back must not stop the auction clock until the old time comes again.
#[actix_web::test]
async fn auctions_start_in_time_after_the_clock_is_set_back() {
    let (node, time) = node_at_noon();
    move_to(&node, &time, noon().plus_ms(1000)).await;
    let earlier = noon().plus_ms(-50 * 60_000);
    time.set(earlier);
    let goods = node.goods(SELLER, 30 * 60_000, 600).await;
    node.user(2).like(goods).await;
    for minute in 1..=30 {
        move_to(&node, &time, earlier.plus_ms(minute * 60_000)).await;
    }
    assert_eq!(kinds(&node.user(2), goods).await, ["auction_started"]);
}

/// A client that has received `started` is in time, whatever the clock says then.
#[actix_web::test]
async fn after_a_start_no_bid_is_too_early_even_if_the_clock_is_set_back() {
    let (node, time) = node_at_noon();
    let goods = node.goods(SELLER, 10_000, 600).await;
    let early = node.user(2).bid(goods, 1000).await;
    assert_eq!(early.code(), "auction_not_started");
    let mut room = node.user(3).room(goods).await;
    room.expect_frame("enter").await;
    move_to(&node, &time, noon().plus_ms(10_000)).await;
    room.expect_frame("started").await;
    time.set(noon().plus_ms(7000));
    accepted(&node.user(2), goods, 1000).await;
    room.expect_frame("bid").await;
    room.send_json(&json!({"is_money": true, "message": 2000})).await;
    assert_eq!(room.expect_frame("bid").await["high_price"], 2000);
}
