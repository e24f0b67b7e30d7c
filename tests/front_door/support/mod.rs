//! A node to test against and clients to test it with. Waiting always has a deadline; nothing sleeps to be in time.

mod checks;
mod client;
mod clock;
mod command;
#[path = "../../support/database.rs"]
pub mod database;
mod dead_reader;
mod doors;
mod examples;
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

use handsup::{
    app::{Node, Secret, Settings},
    domain::{Timestamp, UserId},
    http::{Keys, NewToken},
    time_source::{SystemTime, TimeSource},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use self::doors::{Doors, base};
pub use self::{
    checks::{check_answered, check_history, check_outbids, has_exactly, is_instant, settled},
    client::{Answer, Client},
    clock::{HoldingTime, ManualTime, SilentTime},
    command::{Handsup, Served},
    database::count,
    dead_reader::{room_that_does_not_read, socket_that_does_not_read},
    examples::{AnswerBody, Example, Exchange, Shown, Step, examples},
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

/// How many nodes a test has that doesn't ask for one alone: `HANDSUP_TEST_NODES`, or 1. Several share the database, the
/// time, and one Redis for all tests of the process.
fn usual_nodes() -> usize {
    match std::env::var("HANDSUP_TEST_NODES") {
        Ok(nodes) if !nodes.is_empty() => nodes.parse().expect("HANDSUP_TEST_NODES: a number"),
        _ => 1,
    }
}

/// The Redis of all tests that need none of their own; gone when none of them runs.
fn shared_redis() -> Arc<RedisServer> {
    static SHARED: Mutex<Weak<RedisServer>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    shared.upgrade().unwrap_or_else(|| {
        let started = Arc::new(RedisServer::start());
        *shared = Arc::downgrade(&started);
        started
    })
}

/// A running service: one node, or where `HANDSUP_TEST_NODES` says so several, to which clients go in turn. Dropping it
/// stops it in order.
pub struct TestNode {
    doors: Doors,
    time: Arc<dyn TimeSource>,
    folder: Arc<TempDir>,
    running: Vec<Running>,
    /// None: this is the only node, and has no bus.
    redis: Option<Arc<RedisServer>>,
}

/// A node on a thread and an actix system of its own.
struct Running {
    address: SocketAddr,
    stop: tokio::sync::oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Running {
    fn start(settings: Settings, time: Arc<dyn TimeSource>) -> Self {
        let (tell_address, told_address) = std::sync::mpsc::channel();
        let (stop, told_stop) = tokio::sync::oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            actix::System::new().block_on(async move {
                let node = Node::start(&settings, time).expect("the node starts");
                tell_address.send(node.addresses[0]).unwrap();
                let _ = told_stop.await;
                node.stop().await;
            });
        });
        let address = told_address.recv_timeout(PATIENT_DEADLINE).expect("the node listens");
        Self { address, stop, thread }
    }
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

    /// One node, however many a test usually has: for what is one process's own.
    pub fn alone(change: impl FnOnce(&mut Settings)) -> Self {
        Self::alone_with_time(Arc::new(SystemTime), change)
    }

    /// One node whose settings are changed and whose time is `time`'s.
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
        Self::of_nodes(usual_nodes(), folder, time, change)
    }

    fn of_nodes(
        nodes: usize,
        folder: Arc<TempDir>,
        time: Arc<dyn TimeSource>,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let mut settings = settings(&folder);
        let redis = (nodes > 1).then(shared_redis);
        settings.bus.url = redis.as_ref().map(|redis| redis.url());
        if redis.is_some() {
            // Many tests move the time to an end and no further; what the grace is for has tests of its own.
            settings.auction.close_grace_ms = 0;
        }
        change(&mut settings);
        let start = |_| Running::start(settings.clone(), Arc::clone(&time));
        let running: Vec<Running> = (0..nodes).map(start).collect();
        let doors = Doors::of(running.iter().map(|node| node.address).collect());
        let service = Self { doors, time, folder, running, redis };
        if service.redis.is_some() {
            service.acquainted();
        }
        service
    }

    /// Waits until it is on disk that the user has everything up to this alarm. With several nodes, what one has just been told
    /// is known to the others then, and he might get it twice until then.
    pub async fn knows_received(&self, user: i64, up_to: i64) {
        let stored = format!("users WHERE id = {user} AND received_up_to >= {up_to}");
        let known = || async { (count(&database::usual(self.folder()), &stored) == 1).then_some(()) };
        eventually("the mark is known", known).await;
    }

    /// Waits until the nodes know each other.
    fn acquainted(&self) {
        let give_up = Instant::now() + PATIENT_DEADLINE;
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
                assert!(Instant::now() < give_up, "the nodes don't find each other: {bus}");
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

    /// How many nodes it is.
    pub fn nodes(&self) -> usize {
        self.doors.all().len()
    }

    /// `http://…`; of several nodes the next one's.
    pub fn base(&self) -> String {
        base(self.address())
    }

    /// Where it listens; of several nodes the next one.
    pub fn address(&self) -> SocketAddr {
        self.doors.next()
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

    /// A client with this token, or without.
    pub fn client(&self, token: Option<String>) -> Client {
        Client::of_all(self.doors.for_client(), token)
    }

    /// A client of this user, with a token for an hour.
    pub fn user(&self, id: i64) -> Client {
        self.client(Some(token(id, self.now())))
    }

    /// A client with an admin's token.
    pub fn admin(&self) -> Client {
        self.client(Some(self.admin_token()))
    }

    /// A client with this token for each node, who goes to no other.
    pub fn on_each(&self, token: &str) -> Vec<Client> {
        let on_node = |address: &SocketAddr| Client::new(base(*address), Some(token.to_owned()));
        self.doors.all().iter().map(on_node).collect()
    }

    /// An admin's client of each node.
    pub fn admins(&self) -> Vec<Client> {
        self.on_each(&self.admin_token())
    }

    fn admin_token(&self) -> String {
        let new = NewToken { user: UserId::new(999).unwrap(), username: None, ttl_s: 3600, admin: true };
        Keys::new(SECRET, None).mint(&new, self.now()).unwrap()
    }

    /// A client without a token.
    pub fn visitor(&self) -> Client {
        self.client(None)
    }

    /// What holds at once on one node, and within moments where other nodes have to hear of it.
    pub async fn soon<T, F: Future<Output = Option<T>>>(&self, what: &str, mut look: impl FnMut() -> F) -> T {
        if self.nodes() == 1 {
            return look().await.unwrap_or_else(|| panic!("{what} is not so"));
        }
        eventually(what, look).await
    }

    /// Waits until every node knows that so many users are in the auction room.
    pub async fn knows_participants(&self, goods: i64, count: usize) {
        let page = format!("/goods/{goods}/");
        for admin in self.admins() {
            let look = || async { (admin.get(&page).await.body["participants_count"] == count).then_some(()) };
            self.soon("who is in the room", look).await;
        }
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
