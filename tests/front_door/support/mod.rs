//! A node to test against and clients to test it with. Waiting always has a deadline; nothing sleeps to be in time.

mod checks;
mod client;
mod clock;
mod command;
#[path = "../../support/database.rs"]
pub mod database;
mod dead_reader;
pub mod linear;
mod market;
mod nodes;
mod presence;
mod process;
mod random;
mod raw;
#[path = "../../support/redis.rs"]
mod redis;
mod room;
mod scene;
mod seed;
mod socket;
mod statements;
mod tokens;

use std::{net::SocketAddr, sync::Arc, thread::JoinHandle, time::Duration};

use handsup::{
    app::{Node, Secret, Settings},
    domain::{Timestamp, UserId},
    http::{Keys, NewToken},
    time_source::{SystemTime, TimeSource},
};
use serde_json::{Value, json};
use tempfile::TempDir;

pub use self::{
    checks::{check_answered, check_history, check_outbids, has_exactly, is_instant, settled},
    client::{Answer, Client},
    clock::{HoldingTime, ManualTime, SilentTime},
    command::{Handsup, Served},
    database::count,
    dead_reader::{room_that_does_not_read, socket_that_does_not_read},
    market::Market,
    nodes::{Fleet, Nodes, bus_of, several_nodes_can_be},
    presence::{List, participants, people},
    process::Process,
    random::{dice, kills},
    raw::{BINARY, CLOSE, CONTINUES, CONTINUES_LAST, Raw, TEXT, TEXT_BEGINS, masked},
    redis::RedisServer,
    room::{bid_frame, ended, keys, line_frame, session_figures, sold_goods, trade_frame},
    scene::Scene,
    seed::Seed,
    socket::{Closed, Socket},
    statements::{statements_of, watch_statements},
    tokens::{claims, signed, signed_with},
};

/// The longest that anything may take in a test before it counts as not happening.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// The same for what nobody claims to be quick, a start above all: each of its migrations waits for the disk, which the
/// other tests use as well.
pub const PATIENT_DEADLINE: Duration = Duration::from_secs(60);
/// The key of all test nodes.
pub const SECRET: &str = "a-test-key-that-is-long-enough-to-be-one";

/// Settings of a test node: a fresh database in `folder`, port 0, a proper key, generous rates.
pub fn settings(folder: &TempDir) -> Settings {
    let mut settings = Settings::defaults().unwrap();
    settings.server.bind = "127.0.0.1:0".into();
    settings.server.workers = Some(2);
    settings.database.url = database::url(folder.path());
    settings.auth.jwt_secret = Some(Secret::new(SECRET));
    settings.limits.bids_per_second = 100_000;
    settings.limits.lines_per_second = 100_000;
    settings.limits.requests_per_second = 100_000;
    settings
}

/// A running node, on a thread and an actix system of its own. Dropping it stops it in order.
pub struct TestNode {
    address: SocketAddr,
    time: Arc<dyn TimeSource>,
    folder: Arc<TempDir>,
    running: Option<(tokio::sync::oneshot::Sender<()>, JoinHandle<()>)>,
}

impl TestNode {
    /// A node with the usual settings and the machine's clock.
    pub fn start() -> Self {
        Self::with(|_| {})
    }

    /// A node with one worker: what one socket has heard, all that are open have been told, and none that comes later
    /// hears it. (A worker that is late may tell a socket what was said just before it came.)
    pub fn in_step() -> Self {
        Self::with(|settings| settings.server.workers = Some(1))
    }

    /// A node whose settings are changed by `change`.
    pub fn with(change: impl FnOnce(&mut Settings)) -> Self {
        Self::with_time(Arc::new(SystemTime), change)
    }

    /// A node whose settings are changed and whose time is `time`'s.
    pub fn with_time(time: Arc<dyn TimeSource>, change: impl FnOnce(&mut Settings)) -> Self {
        Self::on(Arc::new(tempfile::tempdir().unwrap()), time, change)
    }

    /// Stops the node and starts another one on the same data.
    pub fn restart(mut self) -> Self {
        self.stop();
        Self::on(Arc::clone(&self.folder), Arc::clone(&self.time), |_| {})
    }

    fn on(folder: Arc<TempDir>, time: Arc<dyn TimeSource>, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = settings(&folder);
        change(&mut settings);
        let (tell_address, told_address) = std::sync::mpsc::channel();
        let (tell_stop, told_stop) = tokio::sync::oneshot::channel::<()>();
        let node_time = Arc::clone(&time);
        let thread = std::thread::spawn(move || {
            actix::System::new().block_on(async move {
                let node = Node::start(&settings, node_time).expect("the node starts");
                tell_address.send(node.addresses[0]).unwrap();
                let _ = told_stop.await;
                node.stop().await;
            });
        });
        let address = told_address.recv_timeout(PATIENT_DEADLINE).expect("the node listens");
        Self { address, time, folder, running: Some((tell_stop, thread)) }
    }

    /// Stops the node in order, as SIGTERM does.
    pub fn stop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            let _ = stop.send(());
            thread.join().expect("the node ends in order");
        }
    }

    /// `http://…`
    pub fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its database, to look into behind its back.
    pub fn database(&self) -> std::path::PathBuf {
        self.folder().join("test.db")
    }

    /// The folder with its database.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// What time it is for the node.
    pub fn now(&self) -> Timestamp {
        self.time.now()
    }

    /// A client of this user, with a token for an hour.
    pub fn user(&self, id: i64) -> Client {
        Client::new(self.base(), Some(token(id, self.now())))
    }

    /// A client with an admin's token.
    pub fn admin(&self) -> Client {
        let new = NewToken { user: UserId::new(999).unwrap(), username: None, ttl_s: 3600, admin: true };
        Client::new(self.base(), Some(Keys::new(SECRET, None).mint(&new, self.now()).unwrap()))
    }

    /// A client without a token.
    pub fn visitor(&self) -> Client {
        Client::new(self.base(), None)
    }

    /// Goods of `seller` that start now (or `starts_in_ms` from now) and last so long.
    pub async fn goods(&self, seller: i64, starts_in_ms: i64, lasts_s: i64) -> i64 {
        let starts_at = self.now().plus_ms(starts_in_ms);
        let body = goods_body(&json!({"starts_at": starts_at, "duration_s": lasts_s}));
        let made = self.user(seller).post("/goods/", &body).await;
        assert_eq!(made.status, 201, "{}", made.body);
        made.body["id"].as_i64().unwrap()
    }

    /// Goods that are live now, for long enough; whoever comes into their room now does not hear the start.
    pub async fn live_goods(&self, seller: i64) -> i64 {
        let goods = self.goods(seller, 0, 1200).await;
        // An admin has no rate that this could use up.
        let (admin, page) = (self.admin(), format!("/goods/{goods}/"));
        eventually("the start", || async { (admin.get(&page).await.body["status"] == true).then_some(()) }).await;
        goods
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        // A failing test must not wait for the node as well.
        if !std::thread::panicking() {
            self.stop();
        }
    }
}

/// A token of this user for an hour from `now`.
pub fn token(user: i64, now: Timestamp) -> String {
    let new =
        NewToken { user: UserId::new(user).unwrap(), username: Some(format!("name{user}")), ttl_s: 3600, admin: false };
    Keys::new(SECRET, None).mint(&new, now).unwrap()
}

/// A good body for `POST /goods/`, with some fields of its own.
pub fn goods_body(own: &Value) -> Value {
    let mut body = json!({
        "title": "camera", "content": "a camera", "category": "기타", "start_price": 1000, "predict_price": 20000,
    });
    for (key, value) in own.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

/// Tries until `what` gives something, with a deadline; for states that no event announces.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, look: impl FnMut() -> F) -> T {
    eventually_within(DEADLINE, what, look).await
}

/// The same with a deadline of the test's own.
pub async fn eventually_within<T, F: Future<Output = Option<T>>>(
    deadline: Duration,
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    let give_up = tokio::time::Instant::now() + deadline;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < give_up, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
