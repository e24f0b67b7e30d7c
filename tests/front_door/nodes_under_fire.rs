//! Nodes are killed and restarted, and so is Redis, while everybody bids and listens at any node: every answer is true,
//! and nobody misses anything.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    time::Duration,
};

use futures_util::future::{join, join_all};
use handsup::test_support::{
    domain::Timestamp,
    time_source::{SystemTime, TimeSource},
};
use rand::{RngExt, rngs::StdRng};
use serde_json::{Value, json};

use crate::{
    clock::{SELLER, kinds},
    support::{
        Client, Fleet, SLOW_DEADLINE, Socket, bid_frame, can_run_several_nodes, check_answered, check_history,
        check_outbids, eventually_within, goods_body, kills, rng, wait_until_settled,
    },
};

const BIDDERS: usize = 10;
const FIRST: i64 = 100;
/// Goods whose auction ends under fire, after those that go on.
const SHORT: usize = 2;
const LONG: usize = 2;
/// How long a client that has lost its node waits before it tries another one.
const RECONNECT_DELAY: Duration = Duration::from_millis(30);

struct Fire {
    fleet: Fleet,
    goods: Vec<i64>,
    prices: Vec<Cell<i64>>,
    /// The bodies of all 201, and all bids that their bidder saw in the room.
    answered: RefCell<Vec<Value>>,
    seen: RefCell<Vec<Value>>,
    rng: RefCell<StdRng>,
    /// Bidding is over.
    ceased: Cell<bool>,
    /// Listening is over.
    over: Cell<bool>,
}

impl Fire {
    fn throw(&self, below: usize) -> usize {
        self.rng.borrow_mut().random_range(0..below)
    }

    fn any_client(&self, user: i64) -> Option<Client> {
        self.fleet.user(self.throw(3), user)
    }

    /// Bids over HTTP or in the room, each time at any node.
    async fn bid(&self, user: i64) {
        while !self.ceased.get() {
            let Some(client) = self.any_client(user) else {
                tokio::time::sleep(RECONNECT_DELAY).await;
                continue;
            };
            for _ in 0..self.throw(20) {
                let which = self.throw(self.goods.len());
                let goods = self.goods[which];
                let price = self.prices[which].replace(self.prices[which].get() + 1);
                let Ok(answer) = client.try_bid(goods, price).await else { break };
                match answer.status {
                    201 => self.answered.borrow_mut().push(answer.body),
                    409 => {}
                    _ => assert_eq!((answer.status, answer.code()), (503, "unavailable"), "{}", answer.text),
                }
            }
            if self.throw(2) == 0 {
                self.bid_in_room(user, &client).await;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn bid_in_room(&self, user: i64, client: &Client) {
        let which = self.throw(self.goods.len());
        let goods = self.goods[which];
        let Ok(Ok(mut room)) = Box::pin(client.try_socket(&format!("/ws/auction/{goods}/"))).await else { return };
        for _ in 0..self.throw(8) {
            let price = self.prices[which].replace(self.prices[which].get() + 1);
            room.try_send_json(&bid_frame(goods, user, price)).await;
            loop {
                let Some(frame) = room.try_next().await else { return };
                match frame["response_type"].as_str() {
                    Some("bid") if frame["sender"] == user && frame["high_price"] == price => {
                        self.seen.borrow_mut().push(frame);
                        break;
                    }
                    Some("alert") => break,
                    _ => {}
                }
            }
        }
    }

    /// A user's alarms by id, over sockets at any node, each resumed where the last one ended.
    async fn listen(&self, user: i64) -> BTreeMap<i64, Value> {
        let (mut received, mut last) = (BTreeMap::new(), 0);
        while !self.over.get() {
            let Some(client) = self.any_client(user) else {
                tokio::time::sleep(RECONNECT_DELAY).await;
                continue;
            };
            let path = format!("/ws/alarms/?since={last}");
            let Ok(Ok(mut socket)) = client.try_socket(&path).await else {
                tokio::time::sleep(RECONNECT_DELAY).await;
                continue;
            };
            while let Some(frame) = self.next(&mut socket).await {
                if frame["response_type"] != "alram" {
                    continue;
                }
                let id = frame["id"].as_i64().unwrap();
                assert!(id > last, "{id} after {last}");
                last = id;
                assert!(received.insert(id, frame).is_none(), "received twice");
            }
        }
        received
    }

    /// Watches a room over sockets at any node: bids without a gap on each of them.
    async fn watch(&self, goods: i64) -> i64 {
        let mut newest = 0;
        while !self.over.get() {
            let Some(client) = self.fleet.visitor(self.throw(3)) else {
                tokio::time::sleep(RECONNECT_DELAY).await;
                continue;
            };
            let Ok(Ok(mut socket)) = client.try_socket(&format!("/ws/auction/{goods}/")).await else {
                tokio::time::sleep(RECONNECT_DELAY).await;
                continue;
            };
            let (mut seq, mut ended) = (0, false);
            while let Some(frame) = self.next(&mut socket).await {
                match frame["response_type"].as_str() {
                    Some("bid") => {
                        let next = frame["seq"].as_i64().unwrap();
                        assert!(seq == 0 || next == seq + 1, "goods {goods}: {next} after {seq}");
                        assert!(!ended, "a bid after the end: {frame}");
                        seq = next;
                        newest = newest.max(seq);
                    }
                    Some("ended") => assert!(!std::mem::replace(&mut ended, true), "goods {goods} ended twice"),
                    _ => {}
                }
            }
        }
        newest
    }

    /// The next frame; `None` when the socket has ended or listening is over.
    async fn next(&self, socket: &mut Socket) -> Option<Value> {
        loop {
            if self.over.get() {
                return None;
            }
            if let Ok(frame) = tokio::time::timeout(Duration::from_millis(200), socket.try_next()).await {
                return frame;
            }
        }
    }

    /// Kills and restarts nodes. Now and then Redis is killed too, or suspended.
    async fn trouble(&self, nodes: usize) {
        for round in 0..kills() {
            tokio::time::sleep(Duration::from_millis(300 + self.throw(500) as u64)).await;
            let at = self.throw(nodes);
            self.fleet.kill(at);
            if round % 3 == 1 {
                self.fleet.redis.borrow().suspend();
                tokio::time::sleep(Duration::from_millis(self.throw(2000) as u64)).await;
                self.fleet.redis.borrow().resume();
            }
            if round % 2 == 0 {
                self.fleet.redis.borrow_mut().kill();
                tokio::time::sleep(Duration::from_millis(self.throw(800) as u64)).await;
            }
            self.fleet.start_at(at).await;
            if round % 2 == 0 {
                self.fleet.redis.borrow_mut().start_again();
            }
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }

    async fn check(&self, received: &[BTreeMap<i64, Value>], ends_at: Timestamp) {
        let client = |user: i64| self.fleet.user(0, user).unwrap().retrying();
        let bidders: Vec<(i64, Client)> = (FIRST..).take(BIDDERS).map(|user| (user, client(user))).collect();
        let visitor = self.fleet.visitor(1).unwrap().retrying();
        let mut stored = 0;
        for (at, goods) in self.goods.iter().enumerate() {
            let history = visitor.history(*goods).await;
            check_history(&history);
            check_answered(&history, self.answered.borrow().iter().filter(|bid| bid["goods_id"] == *goods));
            check_outbids(*goods, &history, &bidders).await;
            for frame in self.seen.borrow().iter().filter(|frame| frame["goods_id"] == *goods) {
                let bid = &history[usize::try_from(frame["seq"].as_i64().unwrap()).unwrap() - 1];
                let said = [&frame["bid_id"], &frame["sender"], &frame["high_price"]];
                assert_eq!(said, [&bid["bid_id"], &bid["user_id"], &bid["price"]]);
            }
            stored += history.len();
            let last = history.last().expect("bids were taken");
            let page = visitor.get(&format!("/goods/{goods}/")).await.body;
            assert_eq!((&page["high_price"], &page["buyer"]["id"]), (&last["price"], &last["user_id"]));
            let is_short = at < SHORT;
            assert_eq!(page["status"], !is_short, "goods {goods}");
            for (user, bidder) in &bidders {
                let ends: Vec<String> =
                    kinds(bidder, *goods).await.into_iter().filter(|kind| kind != "outbid").collect();
                let took_part = history.iter().any(|bid| bid["user_id"] == *user);
                let expected = match (is_short && took_part, last["user_id"] == *user) {
                    (true, true) => vec!["auction_won"],
                    (true, false) => vec!["auction_lost"],
                    _ => vec![],
                };
                assert_eq!(ends, expected, "user {user}, goods {goods}");
            }
            let sold: &[&str] = if is_short { &["auction_sold"] } else { &[] };
            assert_eq!(kinds(&client(SELLER), *goods).await, sold);
            if is_short {
                let late = history.iter().find(|bid| bid["created_at"].as_str().unwrap() >= ends_at.rfc3339().as_str());
                assert_eq!(late, None);
            }
        }
        for ((user, bidder), received) in bidders.iter().zip(received) {
            let inbox: Vec<i64> = bidder.inbox().await.iter().map(|alarm| alarm["id"].as_i64().unwrap()).collect();
            assert_eq!(received.keys().copied().collect::<Vec<_>>(), inbox, "what user {user} received");
        }
        let (answered, seen) = (self.answered.borrow().len(), self.seen.borrow().len());
        let alarms: usize = received.iter().map(BTreeMap::len).sum();
        eprintln!("{stored} bids, of which {answered} were answered and {seen} seen; {alarms} alarms received");
        assert!(answered > 50 && seen > 10);
    }
}

async fn under_fire(nodes: usize, name: &str) {
    if !can_run_several_nodes() {
        return;
    }
    let fleet = Fleet::start(nodes, &[("session.heartbeat_s", "2"), ("session.timeout_s", "8")]).await;
    let now = SystemTime.now();
    let ends_at = now.plus_ms(3000);
    let make = |at: usize| {
        let client = fleet.user(at, SELLER).unwrap();
        let lasts_s = if at < SHORT { 3 } else { 3600 };
        async move {
            let made = client.post("/goods/", &goods_body(&json!({"starts_at": now, "duration_s": lasts_s}))).await;
            made.body["id"].as_i64().unwrap_or_else(|| panic!("{}", made.text))
        }
    };
    let goods = join_all((0..SHORT + LONG).map(make)).await;
    let fire = Fire {
        prices: goods.iter().map(|_| Cell::new(1000)).collect(),
        goods,
        fleet,
        answered: RefCell::default(),
        seen: RefCell::default(),
        rng: RefCell::new(rng(name)),
        ceased: Cell::new(false),
        over: Cell::new(false),
    };
    let users = || (FIRST..).take(BIDDERS);
    let trouble = async {
        let trouble = async {
            fire.trouble(nodes).await;
            SystemTime.wait_until(ends_at.plus_ms(1000)).await;
            fire.ceased.set(true);
        };
        join(trouble, join_all(users().map(|user| fire.bid(user)))).await;
        for at in 0..nodes {
            wait_until_settled(&fire.fleet.admin(at).unwrap(), ends_at.plus_ms(2000)).await;
        }
        // One last bid on all goods that go on, which must reach everybody.
        for at in SHORT..SHORT + LONG {
            let bid = fire.fleet.user(0, SELLER + 1).unwrap().retrying().bid(fire.goods[at], 1_000_000_000).await;
            assert_eq!(bid.status, 201, "{}", bid.text);
        }
        // A gap lasts no longer than this.
        tokio::time::sleep(Duration::from_secs(5)).await;
        fire.over.set(true);
    };
    let listening = join_all(users().map(|user| fire.listen(user)));
    let watching = join_all(fire.goods.iter().map(|goods| fire.watch(*goods)));
    let ((received, newest), ()) = join(join(listening, watching), trouble).await;
    fire.fleet.wait_for_peers().await;
    let visitor = fire.fleet.visitor(0).unwrap().retrying();
    for (at, (goods, newest)) in fire.goods.iter().zip(newest).enumerate() {
        if at >= SHORT {
            assert_eq!(newest, visitor.history(*goods).await.len() as i64, "the watchers saw all of them");
        }
    }
    eventually_within(SLOW_DEADLINE, "all are ready", || async {
        (visitor.get("/health/ready").await.status == 200).then_some(())
    })
    .await;
    fire.check(&received, ends_at).await;
}

/// `HANDSUP_TEST_KILLS` says how often.
#[actix_web::test]
async fn two_nodes_under_fire_keep_what_they_answer_and_everybody_receives_it() {
    under_fire(2, "two_nodes_under_fire_keep_what_they_answer_and_everybody_receives_it").await;
}

#[actix_web::test]
async fn three_nodes_under_fire_keep_what_they_answer_and_everybody_receives_it() {
    under_fire(3, "three_nodes_under_fire_keep_what_they_answer_and_everybody_receives_it").await;
}
