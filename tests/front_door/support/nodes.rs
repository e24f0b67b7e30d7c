//! Several nodes of one service, on one database and one Redis: in this process with a time that a test moves, or as the
//! real program, which can be killed.

use std::{cell::RefCell, ops::Index, path::PathBuf, sync::Arc};

use handsup::{
    app::Settings,
    time_source::{SystemTime, TimeSource},
};
use serde_json::Value;
use tempfile::TempDir;

use super::{
    Client, PATIENT_DEADLINE, Process, TestNode, database, eventually_within,
    redis::{RedisServer, redis_is_here},
};

/// Nodes share a PostgreSQL and a Redis: whether both are there. `if !several_nodes_can_be() { return }`.
pub fn several_nodes_can_be() -> bool {
    database::on_postgres_only() && redis_is_here()
}

/// What a node says of its bus.
pub async fn bus_of(admin: &Client) -> Value {
    admin.get("/admin/health").await.body["checks"]["bus"].take()
}

/// Waits until each of these nodes hears all the others.
async fn know_each_other(admins: &[Client]) {
    for admin in admins {
        eventually_within(PATIENT_DEADLINE, "the nodes hear each other", || async {
            let bus = bus_of(admin).await;
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
    /// So many, with the usual settings and the machine's clock.
    pub async fn start(count: usize) -> Self {
        Self::with(count, |_| {}).await
    }

    /// So many, with settings of the test's own.
    pub async fn with(count: usize, change: impl Fn(&mut Settings)) -> Self {
        Self::with_time(count, Arc::new(SystemTime), change).await
    }

    /// The same, with a time of the test's own, which is that of all of them.
    pub async fn with_time(count: usize, time: Arc<dyn TimeSource>, change: impl Fn(&mut Settings)) -> Self {
        let mut nodes = Self::none(Arc::clone(&time));
        for _ in 0..count {
            nodes.add(Arc::clone(&time), &change);
        }
        nodes.know_each_other().await;
        nodes
    }

    /// None so far.
    pub fn none(time: Arc<dyn TimeSource>) -> Self {
        Self { nodes: Vec::new(), time, redis: RedisServer::start(), folder: Arc::new(tempfile::tempdir().unwrap()) }
    }

    /// One more, with a time of its own.
    pub fn add(&mut self, time: Arc<dyn TimeSource>, change: impl FnOnce(&mut Settings)) {
        let url = self.redis.url();
        self.nodes.push(TestNode::of_nodes(1, Arc::clone(&self.folder), time, |settings| {
            settings.bus.url = Some(url);
            // Several of them share one server and its connections.
            settings.database.pool = 4;
            change(settings);
        }));
    }

    /// One more, like the first ones.
    pub fn add_one(&mut self) {
        self.add(Arc::clone(&self.time), |_| {});
    }

    /// A node that is not among them any more; it still runs.
    pub fn take(&mut self, at: usize) -> TestNode {
        self.nodes.remove(at)
    }

    /// Waits until all of them hear each other.
    pub async fn know_each_other(&self) {
        know_each_other(&self.nodes.iter().map(TestNode::admin).collect::<Vec<_>>()).await;
    }

    /// Waits until all of them say this of their bus.
    pub async fn say_of_their_bus(&self, status: &str) {
        for node in &self.nodes {
            let admin = node.admin();
            eventually_within(PATIENT_DEADLINE, status, || async {
                (bus_of(&admin).await["status"] == status).then_some(())
            })
            .await;
        }
    }

    /// A figure of each node's bus.
    pub async fn bus_figures(&self, name: &str) -> Vec<u64> {
        let mut figures = Vec::new();
        for node in &self.nodes {
            figures.push(bus_of(&node.admin()).await[name].as_u64().expect("a figure"));
        }
        figures
    }

    pub fn iter(&self) -> std::slice::Iter<'_, TestNode> {
        self.nodes.iter()
    }

    /// Clients of this user, one of each node.
    pub fn users(&self, id: i64) -> Vec<Client> {
        self.nodes.iter().map(|node| node.user(id)).collect()
    }

    /// Visitors, one of each node.
    pub fn visitors(&self) -> Vec<Client> {
        self.nodes.iter().map(TestNode::visitor).collect()
    }

    /// The folder with their database.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Their database, to look into behind their back.
    pub fn database(&self) -> PathBuf {
        database::usual(self.folder.path())
    }
}

impl Index<usize> for Nodes {
    type Output = TestNode;

    fn index(&self, at: usize) -> &TestNode {
        &self.nodes[at]
    }
}

/// Nodes that are processes of their own. Each has its place, where it comes back after its end.
pub struct Fleet {
    nodes: RefCell<Vec<Option<Process>>>,
    settings: Vec<(String, String)>,
    pub redis: RefCell<RedisServer>,
    folder: TempDir,
}

impl Fleet {
    /// So many, with these settings (`section.key`).
    pub async fn start(count: usize, settings: &[(&str, &str)]) -> Self {
        let fleet = Self::none(settings);
        fleet.nodes.borrow_mut().resize_with(count, || None);
        futures_util::future::join_all((0..count).map(|at| fleet.start_at(at))).await;
        fleet.know_each_other().await;
        fleet
    }

    /// None so far: what there is to be in the database can be written first.
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
        database::usual(self.folder.path())
    }

    /// Starts the one that is missing here and waits until it listens; whatever else goes on, goes on.
    pub async fn start_at(&self, at: usize) {
        let (database, settings) = (self.database(), self.settings.clone());
        let process = tokio::task::spawn_blocking(move || {
            let settings: Vec<(&str, &str)> = settings.iter().map(|(key, value)| (&**key, &**value)).collect();
            Process::start_with(&database, &settings)
        });
        let process = process.await.expect("it listens");
        let mut nodes = self.nodes.borrow_mut();
        let places = nodes.len().max(at + 1);
        nodes.resize_with(places, || None);
        assert!(nodes[at].replace(process).is_none(), "one is here already");
    }

    /// `kill -9`.
    pub fn kill(&self, at: usize) {
        self.nodes.borrow_mut()[at].take().expect("it runs").kill();
    }

    /// It stands still until [`go_on`](Self::go_on); its clients still look for it there.
    pub fn stand_still(&self, at: usize) {
        self.nodes.borrow()[at].as_ref().expect("it runs").stand_still();
    }

    pub fn go_on(&self, at: usize) {
        self.nodes.borrow()[at].as_ref().expect("it runs").go_on();
    }

    /// SIGTERM; when it has ended by itself. Until then it is still where its clients look for it.
    pub async fn end(&self, at: usize) {
        self.nodes.borrow()[at].as_ref().expect("it runs").terminate();
        let exit = eventually_within(PATIENT_DEADLINE, "its end", || async {
            self.nodes.borrow_mut()[at].as_mut().expect("it runs").has_ended()
        });
        let exit = exit.await;
        let process = self.nodes.borrow_mut()[at].take().expect("it ran");
        assert_eq!(exit.code(), Some(0), "{}", process.stderr());
    }

    /// Waits until all that run hear each other.
    pub async fn know_each_other(&self) {
        let admins: Vec<Client> = self.nodes.borrow().iter().flatten().map(Process::admin).collect();
        know_each_other(&admins).await;
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
