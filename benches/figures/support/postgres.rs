//! A PostgreSQL server for one run: on the measured disk and with `fsync`, unlike the tests' (`scripts/postgres`). It
//! is removed afterwards.

use std::{
    cell::Cell,
    net::TcpListener,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use diesel::{Connection, PgConnection, connection::SimpleConnection};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{cpu::Cpu, disk};

pub struct Server {
    child: Child,
    folder: TempDir,
    port: u16,
    programs: PathBuf,
    made: Cell<usize>,
}

impl Server {
    /// `None`, with a message, where Debian's `postgresql` is not installed.
    pub fn start() -> Option<Self> {
        let Some(programs) = programs() else {
            println!("no PostgreSQL here (Debian: apt-get install postgresql): its rows are left out");
            return None;
        };
        let folder = disk::folder();
        let owner = owner();
        if let Some((user, group)) = owner {
            chown(folder.path(), Some(user), Some(group)).unwrap();
        }
        let data = folder.path().join("data");
        let as_owner = |program: &str| {
            let mut command = Command::new(programs.join(program));
            if let Some((user, group)) = owner {
                command.uid(user).gid(group);
            }
            command.current_dir(folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command
        };
        let mut initdb = as_owner("initdb");
        initdb.args(["-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "-D"]).arg(&data);
        assert!(initdb.status().unwrap().success(), "initdb");
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = as_owner("postgres");
        command.arg("-D").arg(&data).args(["-p", &port.to_string()]);
        // No setting makes a commit less safe. There is room enough that no checkpoint falls into a run.
        for setting in [
            "listen_addresses=127.0.0.1",
            &format!("unix_socket_directories={}", folder.path().display()),
            "shared_buffers=256MB",
            "max_wal_size=4GB",
            "checkpoint_timeout=30min",
        ] {
            command.args(["-c", setting]);
        }
        let child = command.spawn().unwrap();
        let server = Self { child, folder, port, programs, made: Cell::new(0) };
        server.wait_until_there();
        Some(server)
    }

    fn wait_until_there(&self) {
        let give_up = Instant::now() + Duration::from_secs(20);
        while PgConnection::establish(&self.url("postgres")).is_err() {
            assert!(Instant::now() < give_up, "PostgreSQL does not start");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Creates an empty database; returns its URL.
    pub fn make_database(&self) -> String {
        self.made.set(self.made.get() + 1);
        let name = format!("figures{}", self.made.get());
        let mut conn = PgConnection::establish(&self.url("postgres")).unwrap();
        conn.batch_execute(&format!("CREATE DATABASE {name}")).unwrap();
        self.url(&name)
    }

    /// Transactions a second that `pgbench` does with this script and so many clients.
    pub fn pgbench(&self, database: &str, script: &Path, clients: usize, lasts: Duration) -> f64 {
        let threads = clients.min(2);
        let done = Command::new(self.programs.join("pgbench"))
            .args(["-n", "-M", "prepared", "-c", &clients.to_string(), "-j", &threads.to_string()])
            .args(["-T", &lasts.as_secs().max(1).to_string(), "-f"])
            .args([script.as_os_str(), database.as_ref()])
            .output()
            .expect("pgbench");
        let said = String::from_utf8_lossy(&done.stdout);
        let tps = said.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
        tps.unwrap_or_else(|| panic!("{said}{}", String::from_utf8_lossy(&done.stderr)))
    }

    /// The CPU of the server and its connections.
    pub fn cpu(&self) -> Cpu {
        Cpu::of_family(self.child.id())
    }

    /// A folder for scripts.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGINT, because a killed server would leave its shared memory behind.
        if kill_process(Pid::from_child(&self.child), Signal::INT).is_err() {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// The folder with its programs, which Debian keeps out of the PATH; the newest version if there are several.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    versions.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = std::env::split_paths(&path).chain(versions.into_iter().rev());
    let has_all = |folder: &PathBuf| ["initdb", "postgres", "pgbench"].iter().all(|name| folder.join(name).is_file());
    all.into_iter().find(has_all)
}

/// PostgreSQL refuses to run as root; any other user runs it directly.
fn owner() -> Option<(u32, u32)> {
    use std::os::unix::fs::MetadataExt;
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let of_postgres = users.lines().find_map(|line| {
        let mut words = line.strip_prefix("postgres:")?.split(':').skip(1);
        Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
    });
    is_root.then(|| of_postgres.expect("a user postgres, as the package makes it"))
}
