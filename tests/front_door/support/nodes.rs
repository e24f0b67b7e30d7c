//! Several nodes of one service, on one database and one Redis: in this process with a time that a test moves, or as
//! the real program, which can be killed.

use std::{cell::RefCell, ops::Index, path::PathBuf, sync::Arc};

use handsup::test_support::{
    app::Settings,
    time_source::{SystemTime, TimeSource},
};
use serde_json::Value;
use tempfile::TempDir;

use super::{
    Client, Process, SLOW_DEADLINE, TestNode, database, eventually_within,
    redis::{RedisServer, redis_is_here},
};

/// Whether this machine has the PostgreSQL and Redis that several nodes need. `if !can_run_several_nodes() { return }`.
pub fn can_run_several_nodes() -> bool {
    database::on_postgres_only() && redis_is_here()
}

/// A node's figures of its bus.
pub async fn bus_health(admin: &Client) -> Value {
    admin.get("/admin/health").await.body["checks"]["bus"].take()
}

/// Waits until each of these nodes is connected to all others.
async fn wait_for_peers(admins: &[Client]) {
    for admin in admins {
        eventually_within(SLOW_DEADLINE, "the nodes are connected", || async {
            let bus = bus_health(admin).await;
            (bus["status"] == "pass" && bus["others"] == admins.len() - 1).then_some(())
        })
        .await;
    }
}

/// Nodes in this process.
pub struct Nodes {
    nodes: Vec<TestNode>,
    time: Arc<dyn TimeSource>,
    pub redis: RedisServer,
    folder: Arc<TempDir>,
}

impl Nodes {
    /// `count` nodes with the test settings and the machine's clock.
    pub async fn start(count: usize) -> Self {
        Self::with(count, |_| {}).await
    }

    /// `count` nodes with further settings.
    pub async fn with(count: usize, change: impl Fn(&mut Settings)) -> Self {
        Self::with_time(count, Arc::new(SystemTime), change).await
    }

    /// `count` nodes with further settings and one time for all of them.
    pub async fn with_time(count: usize, time: Arc<dyn TimeSource>, change: impl Fn(&mut Settings)) -> Self {
        let mut nodes = Self::none(Arc::clone(&time));
        for _ in 0..count {
            nodes.add(Arc::clone(&time), &change);
        }
        nodes.wait_for_peers().await;
        nodes
    }

    /// No node yet.
    pub fn none(time: Arc<dyn TimeSource>) -> Self {
        Self { nodes: Vec::new(), time, redis: RedisServer::start(), folder: Arc::new(tempfile::tempdir().unwrap()) }
    }

    /// Adds a node with a time of its own.
    pub fn add(&mut self, time: Arc<dyn TimeSource>, change: impl FnOnce(&mut Settings)) {
        let url = self.redis.url();
        self.nodes.push(TestNode::of_nodes(1, Arc::clone(&self.folder), time, |settings| {
            settings.bus.url = Some(url.into());
            // Several nodes share one server and its connections.
            settings.database.pool = 4;
            change(settings);
        }));
    }

    /// Adds a node like the first ones.
    pub fn add_one(&mut self) {
        self.add(Arc::clone(&self.time), |_| {});
    }

    /// Removes a node from this list; it still runs.
    pub fn take(&mut self, at: usize) -> TestNode {
        self.nodes.remove(at)
    }

    /// Waits until all of them are connected.
    pub async fn wait_for_peers(&self) {
        wait_for_peers(&self.nodes.iter().map(TestNode::admin).collect::<Vec<_>>()).await;
    }

    /// Waits until all of them report this status of the bus.
    pub async fn wait_for_bus_status(&self, status: &str) {
        for node in &self.nodes {
            let admin = node.admin();
            eventually_within(SLOW_DEADLINE, status, || async {
                (bus_health(&admin).await["status"] == status).then_some(())
            })
            .await;
        }
    }

    /// One figure of each node's bus.
    pub async fn bus_figures(&self, name: &str) -> Vec<u64> {
        let mut figures = Vec::new();
        for node in &self.nodes {
            figures.push(bus_health(&node.admin()).await[name].as_u64().expect("a figure"));
        }
        figures
    }

    pub fn iter(&self) -> std::slice::Iter<'_, TestNode> {
        self.nodes.iter()
    }

    /// For each node a client of this user.
    pub fn users(&self, id: i64) -> Vec<Client> {
        self.nodes.iter().map(|node| node.user(id)).collect()
    }

    /// For each node a visitor.
    pub fn visitors(&self) -> Vec<Client> {
        self.nodes.iter().map(TestNode::visitor).collect()
    }

    /// The folder with their database.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// The file of their database, to read and change it directly.
    pub fn database(&self) -> PathBuf {
        database::default_path(self.folder.path())
    }
}

impl Index<usize> for Nodes {
    type Output = TestNode;

    fn index(&self, at: usize) -> &TestNode {
        &self.nodes[at]
    }
}

/// Nodes that are processes of their own. Each has a position, at which it can be started again.
pub struct Fleet {
    nodes: RefCell<Vec<Option<Process>>>,
    settings: Vec<(String, String)>,
    pub redis: RefCell<RedisServer>,
    folder: TempDir,
}

impl Fleet {
    /// `count` nodes with these settings (`section.key`).
    pub async fn start(count: usize, settings: &[(&str, &str)]) -> Self {
        let fleet = Self::none(settings);
        fleet.nodes.borrow_mut().resize_with(count, || None);
        futures_util::future::join_all((0..count).map(|at| fleet.start_at(at))).await;
        fleet.wait_for_peers().await;
        fleet
    }

    /// No node yet, so that the database can be filled first.
    pub fn none(settings: &[(&str, &str)]) -> Self {
        let redis = RedisServer::start();
        let mut all = vec![
            ("bus.url".to_owned(), redis.url()),
            ("database.pool".to_owned(), "4".to_owned()),
            ("server.workers".to_owned(), "1".to_owned()),
            ("limits.lines_per_second".to_owned(), "100000".to_owned()),
        ];
        all.extend(settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        Self {
            nodes: RefCell::default(),
            settings: all,
            redis: RefCell::new(redis),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// Their database.
    pub fn database(&self) -> PathBuf {
        database::default_path(self.folder.path())
    }

    /// Starts the node at this position and waits until it listens. Other tasks of the test go on meanwhile.
    pub async fn start_at(&self, at: usize) {
        let (database, settings) = (self.database(), self.settings.clone());
        let process = tokio::task::spawn_blocking(move || {
            let settings: Vec<(&str, &str)> = settings.iter().map(|(key, value)| (&**key, &**value)).collect();
            Process::start_with(&database, &settings)
        });
        let process = process.await.expect("it listens");
        let mut nodes = self.nodes.borrow_mut();
        let positions = nodes.len().max(at + 1);
        nodes.resize_with(positions, || None);
        assert!(nodes[at].replace(process).is_none(), "a node runs here already");
    }

    /// `kill -9`.
    pub fn kill(&self, at: usize) {
        self.nodes.borrow_mut()[at].take().expect("it runs").kill();
    }

    /// Suspends the process until [`resume`](Self::resume). Clients still go to it.
    pub fn suspend(&self, at: usize) {
        self.nodes.borrow()[at].as_ref().expect("it runs").suspend();
    }

    pub fn resume(&self, at: usize) {
        self.nodes.borrow()[at].as_ref().expect("it runs").resume();
    }

    /// Sends SIGTERM and waits for its end. Until then clients still go to it.
    pub async fn end(&self, at: usize) {
        self.nodes.borrow()[at].as_ref().expect("it runs").terminate();
        let exit = eventually_within(SLOW_DEADLINE, "its end", || async {
            self.nodes.borrow_mut()[at].as_mut().expect("it runs").has_ended()
        });
        let exit = exit.await;
        let process = self.nodes.borrow_mut()[at].take().expect("it ran");
        assert_eq!(exit.code(), Some(0), "{}", process.stderr());
    }

    /// Waits until all running nodes are connected.
    pub async fn wait_for_peers(&self) {
        let admins: Vec<Client> = self.nodes.borrow().iter().flatten().map(Process::admin).collect();
        wait_for_peers(&admins).await;
    }

    /// A client of this user at the node here, or at the next one that runs.
    pub fn user(&self, at: usize, id: i64) -> Option<Client> {
        self.find(at, |process| process.user(id))
    }

    pub fn visitor(&self, at: usize) -> Option<Client> {
        self.find(at, Process::visitor)
    }

    pub fn admin(&self, at: usize) -> Option<Client> {
        self.find(at, Process::admin)
    }

    fn find<T>(&self, at: usize, of: impl Fn(&Process) -> T) -> Option<T> {
        let nodes = self.nodes.borrow();
        (at..at + nodes.len()).find_map(|at| nodes[at % nodes.len()].as_ref().map(&of))
    }
}
