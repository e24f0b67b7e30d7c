//! A node to test and clients to test it with. Every wait has a deadline, and no test sleeps to be in time.

mod addresses;
mod checks;
mod client;
mod clock;
mod command;
#[path = "../../support/database.rs"]
pub mod database;
mod dead_reader;
mod described;
mod examples;
mod figures;
mod issuer;
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

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError, Weak},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use handsup::test_support::{
    app::{Node, Settings},
    domain::{Timestamp, UserId},
    http::{Keys, NewToken},
    time_source::{SystemTime, TimeSource},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use self::addresses::{NodeAddresses, base};
pub use self::{
    checks::{
        alarm_id, check_answered, check_history, check_outbids, has_exactly, is_idle, is_instant, wait_until_settled,
        without_time,
    },
    client::{Answer, Client},
    clock::{HoldingTime, ManualTime, SilentTime, noon_in_seoul},
    command::{Handsup, RunningProgram},
    database::count,
    dead_reader::{stalled_room_socket, stalled_socket},
    described::{Described, escaped},
    examples::{AnswerBody, Example, Exchange, ExpectedJson, Step, examples},
    figures::Figures,
    issuer::Issuer,
    market::Market,
    nodes::{Fleet, Nodes, bus_health, can_run_several_nodes},
    presence::{ParticipantList, listed_users, participants},
    process::Process,
    random::{kills, rng},
    raw::{BINARY, CLOSE, CONTINUES, CONTINUES_LAST, Raw, RawAnswer, TEXT, TEXT_BEGINS, masked},
    redis::RedisServer,
    room::{bid_frame, keys, line_frame, session_figures, sold_goods, trade_frame, wait_for_end},
    scene::Scene,
    seed::Seed,
    socket::{Closed, Socket},
    statements::{statements_of, watch_statements},
    tokens::{claims, signed, signed_with},
};

/// The longest that anything may take in a test.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// The longest that slow things may take, above all a start: each of its migrations waits for a disk that all tests
/// share.
pub const SLOW_DEADLINE: Duration = Duration::from_secs(60);
/// The key of all test nodes.
pub const SECRET: &str = "a-test-key-that-is-long-enough-to-be-one";

/// Settings of a test node: a fresh database in `folder`, port 0, a proper key, generous rates.
pub fn settings(folder: &TempDir) -> Settings {
    let mut settings = Settings::defaults().unwrap();
    settings.server.bind = "127.0.0.1:0".into();
    settings.server.workers = Some(2);
    settings.database.url = database::url(folder.path()).into();
    settings.auth.jwt_secret = Some(SECRET.into());
    settings.limits.bids_per_second = 100_000;
    settings.limits.lines_per_second = 100_000;
    settings.limits.requests_per_second = 100_000;
    settings
}

/// How many nodes a test has that does not ask for one alone: `HANDSUP_TEST_NODES`, or 1. Several nodes share the
/// database, the time, and one Redis for all tests of the process.
fn default_node_count() -> usize {
    match std::env::var("HANDSUP_TEST_NODES") {
        Ok(nodes) if !nodes.is_empty() => nodes.parse().expect("HANDSUP_TEST_NODES: a number"),
        _ => 1,
    }
}

/// The Redis of all tests without one of their own. It ends with the last of them.
fn shared_redis() -> Arc<RedisServer> {
    static SHARED: Mutex<Weak<RedisServer>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    shared.upgrade().unwrap_or_else(|| {
        let started = Arc::new(RedisServer::start());
        *shared = Arc::downgrade(&started);
        started
    })
}

/// A running service: one node, or several if `HANDSUP_TEST_NODES` asks for it, to which clients go in turn. Dropping
/// it stops it in order.
pub struct TestNode {
    addresses: NodeAddresses,
    time: Arc<dyn TimeSource>,
    folder: Arc<TempDir>,
    running: Vec<Running>,
    /// `None`: this is the only node, and has no bus.
    redis: Option<Arc<RedisServer>>,
}

/// A node on its own thread and actix system.
struct Running {
    address: SocketAddr,
    stop: tokio::sync::oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Running {
    fn start(settings: Settings, time: Arc<dyn TimeSource>) -> Self {
        let (address_sender, address_receiver) = std::sync::mpsc::channel();
        let (stop, stop_received) = tokio::sync::oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            actix::System::new().block_on(async move {
                let node = Node::start(&settings, time).expect("the node starts");
                address_sender.send(node.addresses[0]).unwrap();
                let _ = stop_received.await;
                node.stop().await;
            });
        });
        let address = address_receiver.recv_timeout(SLOW_DEADLINE).expect("the node listens");
        Self { address, stop, thread }
    }
}

impl TestNode {
    /// A node with the test settings and the machine's clock.
    pub fn start() -> Self {
        Self::with(|_| {})
    }

    /// A node with one worker. What one socket has received, all open sockets have been sent, and no later one gets it.
    /// (With several workers, a late one may send a socket a frame from just before it opened.)
    pub fn with_one_worker() -> Self {
        Self::with(|settings| settings.server.workers = Some(1))
    }

    /// A node whose settings are changed by `change`.
    pub fn with(change: impl FnOnce(&mut Settings)) -> Self {
        Self::with_time(Arc::new(SystemTime), change)
    }

    /// A node with this time, whose settings are changed by `change`.
    pub fn with_time(time: Arc<dyn TimeSource>, change: impl FnOnce(&mut Settings)) -> Self {
        Self::on(Arc::new(tempfile::tempdir().unwrap()), time, change)
    }

    /// Exactly one node, for what one process does by itself.
    pub fn alone(change: impl FnOnce(&mut Settings)) -> Self {
        Self::alone_with_time(Arc::new(SystemTime), change)
    }

    /// Exactly one node with this time.
    pub fn alone_with_time(time: Arc<dyn TimeSource>, change: impl FnOnce(&mut Settings)) -> Self {
        Self::of_nodes(1, Arc::new(tempfile::tempdir().unwrap()), time, change)
    }

    /// Stops the node and starts another one on the same data.
    pub fn restart(mut self) -> Self {
        let nodes = self.nodes();
        self.stop();
        Self::of_nodes(nodes, Arc::clone(&self.folder), Arc::clone(&self.time), |_| {})
    }

    fn on(folder: Arc<TempDir>, time: Arc<dyn TimeSource>, change: impl FnOnce(&mut Settings)) -> Self {
        Self::of_nodes(default_node_count(), folder, time, change)
    }

    fn of_nodes(
        nodes: usize,
        folder: Arc<TempDir>,
        time: Arc<dyn TimeSource>,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let mut settings = settings(&folder);
        let redis = (nodes > 1).then(shared_redis);
        settings.bus.url = redis.as_ref().map(|redis| redis.url().into());
        if redis.is_some() {
            // Many tests move the time to an end and no further. The grace has tests of its own.
            settings.auction.close_grace_ms = 0;
        }
        change(&mut settings);
        let start = |_| Running::start(settings.clone(), Arc::clone(&time));
        let running: Vec<Running> = (0..nodes).map(start).collect();
        let addresses = NodeAddresses::of(running.iter().map(|node| node.address).collect());
        let service = Self { addresses, time, folder, running, redis };
        if service.redis.is_some() {
            service.wait_for_peers();
        }
        service
    }

    /// Waits until the receipt of this alarm and all before it is on disk. Several nodes know it from then on; before,
    /// they may send the alarm again.
    pub async fn wait_for_receipt(&self, user: i64, up_to: i64) {
        let stored = format!("users WHERE id = {user} AND received_up_to >= {up_to}");
        let stored = || async { (count(&database::default_path(self.folder()), &stored) == 1).then_some(()) };
        eventually("the receipt is on disk", stored).await;
    }

    /// Waits until each node is connected to all others.
    fn wait_for_peers(&self) {
        let give_up = Instant::now() + SLOW_DEADLINE;
        let bearer = self.admin_token();
        let request = format!("GET /admin/health HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {bearer}\r\n\r\n");
        for node in &self.running {
            let mut raw = Raw::connect(node.address);
            loop {
                raw.write(request.as_bytes());
                let health = raw.answer().expect("the node's health").body;
                let health: Value = serde_json::from_slice(&health).expect("JSON");
                let bus = &health["checks"]["bus"];
                if bus["status"] == "pass" && bus["others"] == self.running.len() - 1 {
                    break;
                }
                assert!(Instant::now() < give_up, "the nodes do not connect: {bus}");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// Stops the node in order, as SIGTERM does.
    pub fn stop(&mut self) {
        let threads: Vec<JoinHandle<()>> = std::mem::take(&mut self.running)
            .into_iter()
            .map(|node| {
                let _ = node.stop.send(());
                node.thread
            })
            .collect();
        for thread in threads {
            thread.join().expect("the node ends in order");
        }
    }

    /// The number of nodes.
    pub fn nodes(&self) -> usize {
        self.addresses.all().len()
    }

    /// `http://…`; the next node of several.
    pub fn base(&self) -> String {
        base(self.address())
    }

    /// The address it listens on; the next node of several.
    pub fn address(&self) -> SocketAddr {
        self.addresses.next()
    }

    /// The file of its database, to read and change it directly.
    pub fn database(&self) -> std::path::PathBuf {
        self.folder().join("test.db")
    }

    /// The folder with its database.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// The node's time.
    pub fn now(&self) -> Timestamp {
        self.time.now()
    }

    /// A client with this token, or without one.
    pub fn client(&self, token: Option<String>) -> Client {
        Client::over_nodes(self.addresses.for_client(), token)
    }

    /// A client of this user, with a token for an hour.
    pub fn user(&self, id: i64) -> Client {
        self.client(Some(token(id, self.now())))
    }

    /// A client with an admin's token.
    pub fn admin(&self) -> Client {
        self.client(Some(self.admin_token()))
    }

    /// For each node a client with this token that goes to no other node.
    pub fn on_each_node(&self, token: &str) -> Vec<Client> {
        let on_node = |address: &SocketAddr| Client::new(base(*address), Some(token.to_owned()));
        self.addresses.all().iter().map(on_node).collect()
    }

    /// An admin's client for each node.
    pub fn admins(&self) -> Vec<Client> {
        self.on_each_node(&self.admin_token())
    }

    /// Waits until all that is due at this time is done.
    pub async fn wait_until_settled(&self, at: Timestamp) {
        wait_until_settled(&self.admin(), at).await;
        // What is under way is known to its own node only.
        for admin in self.admins() {
            eventually_within(SLOW_DEADLINE, "an idle node", || async { is_idle(&admin).await.then_some(()) }).await;
        }
    }

    fn admin_token(&self) -> String {
        let new = NewToken { user: UserId::new(999).unwrap(), username: None, ttl_s: 3600, admin: true };
        Keys::new(SECRET, None).mint(&new, self.now()).unwrap()
    }

    /// A client without a token.
    pub fn visitor(&self) -> Client {
        self.client(None)
    }

    /// What holds at once on one node, and within moments on several, where a change goes over the bus.
    pub async fn soon<T, F: Future<Output = Option<T>>>(&self, what: &str, mut poll: impl FnMut() -> F) -> T {
        if self.nodes() == 1 {
            return poll().await.unwrap_or_else(|| panic!("{what} did not happen"));
        }
        eventually(what, poll).await
    }

    /// Waits until every node counts so many users in the auction room.
    pub async fn wait_for_participants(&self, goods: i64, count: usize) {
        let page = format!("/goods/{goods}/");
        for admin in self.admins() {
            let poll = || async { (admin.get(&page).await.body["participants_count"] == count).then_some(()) };
            self.soon("who is in the room", poll).await;
        }
    }

    /// Goods of `seller` that start in `starts_in_ms` and last `lasts_s`.
    pub async fn goods(&self, seller: i64, starts_in_ms: i64, lasts_s: i64) -> i64 {
        let starts_at = self.now().plus_ms(starts_in_ms);
        let body = goods_body(&json!({"starts_at": starts_at, "duration_s": lasts_s}));
        let made = self.user(seller).post("/goods/", &body).await;
        assert_eq!(made.status, 201, "{}", made.body);
        made.body["id"].as_i64().unwrap()
    }

    /// Goods that are live and stay so. Sockets that open from now on get no frame about the start.
    pub async fn live_goods(&self, seller: i64) -> i64 {
        let goods = self.goods(seller, 0, 1200).await;
        // An admin has no rate limit.
        let (admin, page) = (self.admin(), format!("/goods/{goods}/"));
        eventually("the start", || async { (admin.get(&page).await.body["status"] == true).then_some(()) }).await;
        goods
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        // A failing test does not wait for the node.
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

/// Outbids user 2 so many times, each time on goods of their own: an outbid on goods that user 2 leads again would no
/// longer hold.
pub async fn outbid_times(node: &TestNode, times: i64) {
    let (victim, other) = (node.user(2), node.user(3));
    for _ in 0..times {
        let goods = node.live_goods(1).await;
        assert_eq!(victim.bid(goods, 1000).await.status, 201);
        assert_eq!(other.bid(goods, 1001).await.status, 201);
    }
}

/// A valid body for `POST /goods/`, with some fields replaced or added.
pub fn goods_body(own: &Value) -> Value {
    let mut body = json!({
        "title": "camera", "content": "a camera", "category": "기타", "start_price": 1000, "predict_price": 20000,
    });
    for (key, value) in own.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

/// Polls `poll` until it returns something, within [`DEADLINE`]. For states that no event announces.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, poll: impl FnMut() -> F) -> T {
    eventually_within(DEADLINE, what, poll).await
}

/// Polls `poll` within a given deadline.
pub async fn eventually_within<T, F: Future<Output = Option<T>>>(
    deadline: Duration,
    what: &str,
    mut poll: impl FnMut() -> F,
) -> T {
    let give_up = tokio::time::Instant::now() + deadline;
    loop {
        if let Some(found) = poll().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < give_up, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
