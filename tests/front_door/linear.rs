//! Random bids by many users at once, which one order must explain: on a running node, and on the real program killed
//! in between. The checker is in `support/linear.rs`, its own tests are in `linear_checker.rs`.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    time::{Duration, Instant},
};

use awc::http::Method;
use futures_util::future::{join, join_all};
use handsup::test_support::time_source::{SystemTime, TimeSource};
use rand::{RngExt, rngs::StdRng};
use serde_json::{Value, json};

use crate::support::{
    Answer, Client, Nodes, Process, TestNode, can_run_several_nodes, goods_body, kills,
    linear::{Auction, Call, Outcome, Stored, explain},
    rng,
};

const SELLER: i64 = 1;
/// The seller bids too.
const PLAYERS: std::ops::Range<i64> = SELLER..13;
const TABLES: usize = 3;

/// One goods item, and everything that was seen of it.
struct Table {
    goods: i64,
    auction: Auction,
    /// The price around which they bid.
    price: Cell<i64>,
    calls: RefCell<Vec<Call>>,
    /// The price that each user's keys belong to.
    keys: RefCell<HashMap<(i64, u32), i64>>,
}

struct Game {
    tables: Vec<Table>,
    rng: RefCell<StdRng>,
    began: Instant,
    /// Whether keys are also reused for other prices.
    mixes_keys: bool,
}

impl Game {
    /// Creates tables with different rules, all live.
    async fn open(seller: &Client, mut rng: StdRng, mixes_keys: bool) -> Self {
        let mut tables = Vec::new();
        for _ in 0..TABLES {
            let (start_price, min_increment) = (rng.random_range(1..2000), rng.random_range(1..30));
            let own = json!({
                "start_price": start_price, "min_increment": min_increment,
                "starts_at": SystemTime.now(), "duration_s": 3600,
            });
            let made = seller.post("/goods/", &goods_body(&own)).await;
            assert_eq!(made.status, 201, "{}", made.text);
            tables.push(Table {
                goods: made.body["id"].as_i64().unwrap(),
                auction: Auction { seller: SELLER, start_price, min_increment },
                price: Cell::new(start_price),
                calls: RefCell::default(),
                keys: RefCell::default(),
            });
        }
        Self { tables, rng: RefCell::new(rng), began: Instant::now(), mixes_keys }
    }

    fn random(&self, sides: std::ops::Range<i64>) -> i64 {
        self.rng.borrow_mut().random_range(sides)
    }

    fn key_and_price(&self, table: &Table, user: i64) -> (Option<u32>, i64) {
        // Some are far below: they can be refused from memory, which must be of their own time.
        let price = if self.random(0..8) == 0 { 1 } else { (table.price.get() + self.random(-40..60)).max(1) };
        if self.random(0..3) > 0 {
            return (None, price);
        }
        // A small range, so that they meet: the same bid is sent again, also while the first one is pending.
        let newest = table.keys.borrow().keys().filter(|(of, _)| *of == user).count();
        let key = u32::try_from(newest.saturating_sub(2)).unwrap() + u32::try_from(self.random(0..3)).unwrap();
        let kept = *table.keys.borrow_mut().entry((user, key)).or_insert(price);
        (Some(key), if self.mixes_keys && self.random(0..4) == 0 { price } else { kept })
    }

    /// One call of this user; false when the server is gone.
    async fn play(&self, user: i64, client: &Client) -> bool {
        let table = &self.tables[usize::try_from(self.random(0..TABLES as i64)).unwrap()];
        let call = if self.random(0..8) == 0 {
            self.view_page(table, user, client).await
        } else {
            self.bid(table, user, client).await
        };
        let goes_on = call.outcome != Outcome::Unknown;
        // A bid whose answer was lost may have raised the price too.
        let high = match call.outcome {
            Outcome::Accepted { .. } => Some(call.price),
            Outcome::TooLow { high, .. } | Outcome::Saw { high, .. } => high,
            _ => None,
        };
        table.price.set(table.price.get().max(high.unwrap_or(0)));
        table.calls.borrow_mut().push(call);
        goes_on
    }

    async fn view_page(&self, table: &Table, user: i64, client: &Client) -> Call {
        let began = self.began.elapsed();
        let page = client.try_send_with(Method::GET, &format!("/goods/{}/", table.goods), None, &[]).await;
        let ended = self.began.elapsed();
        let outcome = page.map_or(Outcome::Unknown, |page| {
            assert_eq!(page.status, 200, "{}", page.text);
            Outcome::Saw { seq: whole(&page.body["bid_seq"]), high: high_price(&page) }
        });
        Call { user, price: 0, key: None, began, ended, outcome, replayed: false }
    }

    async fn bid(&self, table: &Table, user: i64, client: &Client) -> Call {
        let (key, price) = self.key_and_price(table, user);
        let header = key.map(|key| format!("{}-{key}", table.goods));
        let headers: Vec<_> = header.iter().map(|key| ("Idempotency-Key", key.as_str())).collect();
        let path = format!("/goods/{}/bids", table.goods);
        let body = json!({"price": price}).to_string().into_bytes();
        let began = self.began.elapsed();
        let answer = client.try_send_with(Method::POST, &path, Some(body), &headers).await;
        let ended = self.began.elapsed();
        let replayed = answer.as_ref().is_ok_and(|answer| answer.headers.contains_key("idempotent-replayed"));
        let outcome = answer.map_or(Outcome::Unknown, |answer| outcome(&answer));
        Call { user, price, key, began, ended, outcome, replayed }
    }

    /// All play until each has had so many turns or the server is gone. Each user makes two calls at a time.
    async fn play_all(&self, players: &[(i64, Client)], turns: usize) {
        let hand = |user: i64, client| async move {
            for _ in 0..turns {
                if !self.play(user, client).await {
                    return;
                }
            }
        };
        join_all(players.iter().chain(players).map(|(user, client)| hand(*user, client))).await;
    }

    /// Asserts that one order explains everything so far. Returns the number of calls by outcome.
    async fn check(&self, visitor: &Client) -> HashMap<&'static str, usize> {
        let mut kinds = HashMap::new();
        for table in &self.tables {
            let history: Vec<Stored> = visitor.history(table.goods).await.iter().map(stored).collect();
            let calls = table.calls.borrow();
            if let Err(contradiction) = explain(&table.auction, &calls, &history) {
                panic!("no order explains it: {contradiction}\n{:?}\n{history:?}\n{calls:#?}", table.auction);
            }
            *kinds.entry("stored").or_default() += history.len();
            for call in calls.iter() {
                *kinds.entry(kind(call)).or_default() += 1;
            }
        }
        kinds
    }
}

fn whole(value: &Value) -> usize {
    usize::try_from(value.as_i64().unwrap()).unwrap()
}

/// The wire shows 0 before the first bid.
fn high_price(answer: &Answer) -> Option<i64> {
    Some(answer.body["high_price"].as_i64().unwrap()).filter(|high| *high > 0)
}

fn stored(bid: &Value) -> Stored {
    let [user, price] = ["user_id", "price"].map(|field| bid[field].as_i64().unwrap());
    Stored { seq: whole(&bid["seq"]), user, price }
}

fn outcome(answer: &Answer) -> Outcome {
    if answer.status == 201 {
        return Outcome::Accepted { seq: whole(&answer.body["seq"]) };
    }
    match answer.code() {
        "bid_too_low" => {
            Outcome::TooLow { high: high_price(answer), minimum: answer.body["minimum"].as_i64().unwrap() }
        }
        "auction_not_started" => Outcome::NotStarted,
        "auction_ended" => Outcome::Ended,
        "seller_cannot_bid" => Outcome::SellerCannotBid,
        "idempotency_key_reused" => Outcome::KeyReused,
        "unavailable" if answer.body["outcome"] == "not_stored" => Outcome::NotStored,
        "unavailable" => Outcome::Unknown,
        other => panic!("{other}: {}", answer.text),
    }
}

fn kind(call: &Call) -> &'static str {
    match call.outcome {
        _ if call.replayed => "replayed",
        Outcome::Accepted { .. } => "accepted",
        Outcome::TooLow { .. } => "too low",
        Outcome::NotStarted | Outcome::Ended => "not live",
        Outcome::SellerCannotBid => "seller's",
        Outcome::KeyReused => "key reused",
        Outcome::NotStored => "not stored",
        Outcome::Unknown => "unknown",
        Outcome::Saw { .. } => "saw",
    }
}

#[actix_web::test]
async fn one_order_explains_what_many_clients_see_at_once() {
    let node = TestNode::start();
    let rng = rng("one_order_explains_what_many_clients_see_at_once");
    let game = Game::open(&node.user(SELLER), rng, true).await;
    let players: Vec<_> = PLAYERS.map(|user| (user, node.user(user))).collect();
    game.play_all(&players, 100).await;
    let kinds = game.check(&node.visitor()).await;
    eprintln!("{kinds:?}");
    for kind in ["accepted", "too low", "seller's", "key reused", "replayed", "saw"] {
        assert!(kinds.contains_key(kind), "no {kind} in {kinds:?}");
    }
}

/// The same with two nodes, each of which remembers only what it has stored itself.
#[actix_web::test]
async fn one_order_explains_what_many_clients_see_at_two_nodes() {
    if !can_run_several_nodes() {
        return;
    }
    let nodes = Nodes::start(2).await;
    let rng = rng("one_order_explains_what_many_clients_see_at_two_nodes");
    let game = Game::open(&nodes[0].user(SELLER), rng, true).await;
    let players: Vec<_> = PLAYERS.map(|user| (user, nodes[user.unsigned_abs() as usize % 2].user(user))).collect();
    game.play_all(&players, 60).await;
    let kinds = game.check(&nodes[1].visitor()).await;
    eprintln!("{kinds:?}");
    for kind in ["accepted", "too low", "seller's", "key reused", "replayed", "saw"] {
        assert!(kinds.contains_key(kind), "no {kind} in {kinds:?}");
    }
}

/// `HANDSUP_TEST_KILLS` says how often. A call pending at a kill is stored or not; either must fit.
#[actix_web::test]
async fn one_order_explains_what_is_seen_before_and_after_kills() {
    let rng = rng("one_order_explains_what_is_seen_before_and_after_kills");
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("x.db");
    let mut process = Process::start(&database);
    let game = Game::open(&process.user(SELLER), rng, false).await;
    let mut kinds = HashMap::new();
    for _ in 0..kills() {
        let players: Vec<_> = PLAYERS.map(|user| (user, process.user(user))).collect();
        let moment = Duration::from_micros(game.random(0..200_000).unsigned_abs());
        let kill = async {
            tokio::time::sleep(moment).await;
            process.kill();
        };
        join(game.play_all(&players, usize::MAX), kill).await;
        process = Process::start(&database);
        kinds = game.check(&process.visitor()).await;
    }
    eprintln!("{kinds:?}");
    assert!(kinds["accepted"] > 0 && kinds["unknown"] > 0, "{kinds:?}");
}
