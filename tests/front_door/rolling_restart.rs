//! Nodes are stopped in order and started again, one after the other, under load. Clients that do what the contract
//! says lose nothing and bid nothing twice.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use awc::http::Method;
use futures_util::future::{join, join_all};
use handsup::test_support::time_source::{SystemTime, TimeSource};
use serde_json::{Value, json};

use crate::{
    clock::SELLER,
    support::{Client, Fleet, can_run_several_nodes, check_answered, check_history, check_outbids, goods_body},
};

const NODES: usize = 2;
const FIRST: i64 = 100;
const BIDDERS: usize = 6;

struct Rollout {
    fleet: Fleet,
    goods: i64,
    price: Cell<i64>,
    stored: RefCell<Vec<Value>>,
    /// How often a bid had to be repeated.
    repeated: Cell<usize>,
    ceased: Cell<bool>,
    over: Cell<bool>,
}

impl Rollout {
    /// Bids at the user's own node. A bid that was not stored there, or whose answer was lost, is repeated at the other
    /// node with its key.
    async fn bid(&self, at: usize, user: i64) {
        let mut turn = 0;
        while !self.ceased.get() {
            let price = self.price.replace(self.price.get() + 1);
            let key = format!("{user}-{turn}");
            turn += 1;
            for attempt in at.. {
                if let Some(body) = self.ask(attempt, user, price, &key).await {
                    self.stored.borrow_mut().extend(body);
                    break;
                }
                self.repeated.set(self.repeated.get() + 1);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// `Some(Some(body))` if the bid was stored, `Some(None)` if it was refused, `None` if nothing is known yet.
    async fn ask(&self, at: usize, user: i64, price: i64, key: &str) -> Option<Option<Value>> {
        let client = self.fleet.user(at, user)?;
        let (path, body) = (format!("/goods/{}/bids", self.goods), json!({"price": price}).to_string().into_bytes());
        let headers = [("Idempotency-Key", key)];
        let answer = client.try_send_with(Method::POST, &path, Some(body), &headers).await.ok()?;
        match answer.status {
            201 => Some(Some(answer.body)),
            409 if answer.code() == "bid_too_low" => Some(None),
            409 => {
                assert_eq!(answer.code(), "idempotency_in_flight", "{}", answer.text);
                None
            }
            503 => {
                assert_eq!(answer.body["outcome"], "not_stored", "{}", answer.text);
                None
            }
            _ => panic!("{}", answer.text),
        }
    }

    /// Listens at the user's node. When it restarts, reconnects after the delay that it asked for.
    async fn listen(&self, at: usize, user: i64) -> (BTreeMap<i64, Value>, usize) {
        let (mut received, mut restarts) = (BTreeMap::new(), 0);
        while !self.over.get() {
            let last = received.last_key_value().map_or(0, |(id, _)| *id);
            let client = self.fleet.user(at, user).expect("one of them runs");
            let Ok(Ok(mut socket)) = client.try_socket(&format!("/ws/alarms/?since={last}")).await else {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            let closed = loop {
                if self.over.get() {
                    return (received, restarts);
                }
                let Ok(next) = tokio::time::timeout(Duration::from_millis(100), socket.text_or_close()).await else {
                    continue;
                };
                match next {
                    Ok(frame) if frame["response_type"] == "alram" => {
                        let id = frame["id"].as_i64().unwrap();
                        assert!(received.insert(id, frame).is_none(), "received twice");
                    }
                    Ok(_) => {}
                    Err(closed) => break closed,
                }
            };
            assert_eq!(closed.code, Some(1012), "{closed:?}");
            let reason: Value = serde_json::from_str(&closed.reason).expect("JSON");
            let retry_ms = reason["retry_ms"].as_u64().expect("a time to come back");
            assert!((1000..=6000).contains(&retry_ms), "{retry_ms}");
            restarts += 1;
            tokio::time::sleep(Duration::from_millis(retry_ms)).await;
        }
        (received, restarts)
    }
}

#[actix_web::test]
async fn nodes_that_restart_in_turn_lose_no_bid_and_no_alarm() {
    if !can_run_several_nodes() {
        return;
    }
    let fleet = Fleet::start(NODES, &[("session.heartbeat_s", "2"), ("session.timeout_s", "8")]).await;
    let own = json!({"starts_at": SystemTime.now(), "duration_s": 3600});
    let made = fleet.user(0, SELLER).unwrap().post("/goods/", &goods_body(&own)).await;
    let rollout = Rollout {
        fleet,
        goods: made.body["id"].as_i64().expect("goods"),
        price: Cell::new(1000),
        stored: RefCell::default(),
        repeated: Cell::new(0),
        ceased: Cell::new(false),
        over: Cell::new(false),
    };
    let users: Vec<(usize, i64)> = (FIRST..).take(BIDDERS).enumerate().map(|(nth, user)| (nth % NODES, user)).collect();
    let restarting = async {
        let restarts = async {
            for at in 0..NODES {
                tokio::time::sleep(Duration::from_millis(700)).await;
                rollout.fleet.end(at).await;
                tokio::time::sleep(Duration::from_millis(200)).await;
                rollout.fleet.start_at(at).await;
                rollout.fleet.wait_for_peers().await;
            }
            tokio::time::sleep(Duration::from_millis(700)).await;
            rollout.ceased.set(true);
        };
        join(restarts, join_all(users.iter().map(|(at, user)| rollout.bid(*at, *user)))).await;
        // Longer than the longest delay that a node asks for.
        tokio::time::sleep(Duration::from_secs(6)).await;
        rollout.over.set(true);
    };
    let listening = join_all(users.iter().map(|(at, user)| rollout.listen(*at, *user)));
    let (received, ()) = join(listening, restarting).await;

    let history = rollout.fleet.visitor(0).unwrap().history(rollout.goods).await;
    check_history(&history);
    let stored = rollout.stored.borrow().clone();
    check_answered(&history, stored.iter());
    let ids: BTreeSet<i64> = stored.iter().map(|bid| bid["bid_id"].as_i64().unwrap()).collect();
    assert_eq!((ids.len(), ids.len()), (stored.len(), history.len()), "each was answered, and none is there twice");
    let bidders: Vec<(i64, Client)> =
        users.iter().map(|(_, user)| (*user, rollout.fleet.user(1, *user).unwrap())).collect();
    check_outbids(rollout.goods, &history, &bidders).await;
    for ((user, bidder), (received, restarts)) in bidders.iter().zip(&received) {
        let inbox: Vec<i64> = bidder.inbox().await.iter().map(|alarm| alarm["id"].as_i64().unwrap()).collect();
        assert_eq!(received.keys().copied().collect::<Vec<_>>(), inbox, "what user {user} received");
        assert!(*restarts >= 1, "user {user} was asked to come back");
    }
    eprintln!("{} bids, {} asked again", history.len(), rollout.repeated.get());
    assert!(history.len() > 50);
}
