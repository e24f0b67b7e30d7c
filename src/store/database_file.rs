//! The file of an SQLite database. [`DatabaseFile`] locks it for this process alone and detects when it is moved,
//! replaced, cut or overwritten, so that the service answers nothing that a restart would not find.

use std::{
    fs::{self, File, Metadata, TryLockError},
    io,
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use diesel::{SqliteConnection, connection::SimpleConnection};

use super::{Loss, StoreError, engine::sqlite::connection as sqlite};

/// Identifies a file, whatever its names: device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }

    /// The file that is at this path now.
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|metadata| Self::of(&metadata))
    }
}

/// The database files that this process has opened. Each is opened once and stays open as long as it has a name:
/// closing any descriptor of a file releases all POSIX locks that the process has on it, and SQLite uses such locks.
static OPEN_FILES: Mutex<Vec<OpenFile>> = Mutex::new(Vec::new());

struct OpenFile {
    id: FileId,
    file: Arc<File>,
    is_locked: bool,
}

/// The lock of this process on its database file: two processes on one file would not learn of each other's bids or
/// alarms. It is held until this is dropped or the process ends, also by `kill -9`. It is on the file itself, so that
/// it also holds under a second name and for a deleted file.
pub(crate) struct DatabaseFile {
    path: PathBuf,
    wal: PathBuf,
    id: FileId,
    file: Arc<File>,
    /// What the last check saw; `None` until `watch` is called.
    seen: Option<Snapshot>,
    /// How the file's content was damaged. It stays set until a restart.
    damage: Option<Loss>,
    is_lost: Arc<AtomicBool>,
    /// Keeps the WAL file: SQLite deletes it when the last connection closes, and would then create another file.
    keeper: Option<SqliteConnection>,
}

/// State of the database file and its WAL file at a check.
struct Snapshot {
    header: Header,
    bytes: u64,
    modified: (i64, i64),
    wal: FileId,
    wal_bytes: u64,
}

impl DatabaseFile {
    /// Locks the file at this path, and creates it if there is none.
    pub(super) fn lock(path: &Path) -> Result<Self, StoreError> {
        let unavailable = |error: io::Error| StoreError::Unavailable(format!("{}: {error}", path.display()));
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder)
                .map_err(|error| StoreError::Unavailable(format!("{}: {error}", folder.display())))?;
        }
        // SQLite would create an empty database and delete the WAL, which may be all that is left of the data.
        let bytes = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
        if bytes(path) == 0 && bytes(&wal_of(path)) > 0 {
            let advice =
                "is missing or empty, but its -wal file is there: put the database back, or move that file away";
            return Err(StoreError::Unavailable(format!("{} {advice}", path.display())));
        }
        let mut files = OPEN_FILES.lock().unwrap_or_else(PoisonError::into_inner);
        files.retain(|open| open.is_locked || open.file.metadata().is_ok_and(|metadata| metadata.nlink() > 0));
        let known = FileId::at(path).ok().and_then(|id| files.iter().position(|open| open.id == id));
        let at = match known {
            Some(at) => at,
            None => {
                let mut options = File::options();
                // SQLite gives the WAL file the same mode.
                let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
                let file = file.map_err(unavailable)?;
                let id = FileId::of(&file.metadata().map_err(unavailable)?);
                files.push(OpenFile { id, file: Arc::new(file), is_locked: false });
                files.len() - 1
            }
        };
        let open = &mut files[at];
        let in_use = || StoreError::Unavailable(format!("{} is in use by another process", path.display()));
        if open.is_locked {
            return Err(in_use());
        }
        match open.file.try_lock() {
            Ok(()) => open.is_locked = true,
            Err(TryLockError::WouldBlock) => return Err(in_use()),
            Err(TryLockError::Error(error)) => return Err(unavailable(error)),
        }
        let (id, file) = (open.id, Arc::clone(&open.file));
        let (is_lost, wal) = (Arc::default(), wal_of(path));
        Ok(Self { path: path.to_owned(), wal, id, file, seen: None, damage: None, is_lost, keeper: None })
    }

    /// The locked file.
    pub(super) fn id(&self) -> FileId {
        self.id
    }

    /// A flag that is true if the last check failed.
    pub(super) fn lost_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_lost)
    }

    /// Starts the watch: from now on [`check`](Self::check) compares the files with their state now. `keeper` is the
    /// connection that has migrated the database.
    pub(super) fn watch(&mut self, mut keeper: SqliteConnection) -> Result<(), StoreError> {
        // Move what an earlier run left in the WAL into the file: its header then tells whether it is an older state.
        keeper.batch_execute("PRAGMA wal_checkpoint(TRUNCATE)")?;
        let unavailable = |error: io::Error| StoreError::Unavailable(format!("{}: {error}", self.path.display()));
        let metadata = self.file.metadata().map_err(unavailable)?;
        let wal = fs::metadata(&self.wal).map_err(unavailable)?;
        self.seen = Some(Snapshot {
            header: Header::read(&self.file).ok_or(Loss::Overwritten)?,
            bytes: metadata.len(),
            modified: modified(&metadata),
            wal: FileId::of(&wal),
            wal_bytes: wal.len(),
        });
        self.keeper = Some(keeper);
        self.check()
    }

    /// Checks that a restart would find what has been written, and logs when that changes. A file that was moved away
    /// may come back; one that was cut or overwritten stays lost. Normally costs two calls of `stat`.
    pub(super) fn check(&mut self) -> Result<(), StoreError> {
        let found = self.compare();
        let was_lost = self.is_lost.swap(found.is_err(), Ordering::AcqRel);
        match &found {
            Err(why) if !was_lost => {
                log::error!(database:% = self.path.display(), error:% = why; "the database is lost")
            }
            Ok(()) if was_lost => log::warn!(database:% = self.path.display(); "the database is back"),
            _ => {}
        }
        Ok(found?)
    }

    fn compare(&mut self) -> Result<(), Loss> {
        if let Some(damage) = self.damage {
            return Err(damage);
        }
        let metadata = fs::metadata(&self.path).map_err(|error| Loss::NotFound(error.kind()))?;
        if FileId::of(&metadata) != self.id {
            return Err(Loss::Replaced);
        }
        let Some(seen) = &mut self.seen else { return Ok(()) };
        if (metadata.len(), modified(&metadata)) != (seen.bytes, seen.modified) {
            let header = Header::read(&self.file).filter(|header| header.follows(&seen.header));
            match header {
                Some(header) if metadata.len() >= seen.bytes.min(header.bytes()) => seen.header = header,
                Some(_) => return Err(self.set_damage(Loss::Cut)),
                None => return Err(self.set_damage(Loss::Overwritten)),
            }
            (seen.bytes, seen.modified) = (metadata.len(), modified(&metadata));
        }
        let wal = fs::metadata(&self.wal).map_err(|error| Loss::WalNotFound(error.kind()))?;
        if FileId::of(&wal) != seen.wal {
            return Err(Loss::WalReplaced);
        }
        // The WAL is shorter if another program has moved all of it into the database file. Then everything can still
        // be read; otherwise it was cut.
        if wal.len() < seen.wal_bytes && !sqlite::can_read_commit_markers(&self.path) {
            return Err(self.set_damage(Loss::WalCut));
        }
        seen.wal_bytes = wal.len();
        Ok(())
    }

    fn set_damage(&mut self, damage: Loss) -> Loss {
        *self.damage.insert(damage)
    }
}

/// Path of the WAL file, which has the newest commits. SQLite puts it beside the file itself, not beside a link to it.
fn wal_of(path: &Path) -> PathBuf {
    let mut wal = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()).into_os_string();
    wal.push("-wal");
    wal.into()
}

impl Drop for DatabaseFile {
    fn drop(&mut self) {
        // Closing the last connection moves the WAL into the database file, if both are still in place.
        self.keeper = None;
        let mut files = OPEN_FILES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = files.iter_mut().find(|open| open.id == self.id) {
            // Unlock explicitly: a child process that is just being forked may have a copy of the descriptor.
            let _ = open.file.unlock();
            open.is_locked = false;
        }
    }
}

fn modified(metadata: &Metadata) -> (i64, i64) {
    (metadata.mtime(), metadata.mtime_nsec())
}

/// Fields of the SQLite file header. The counters among them never decrease, whichever program writes by SQLite's
/// rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    /// 1 stands for 65536.
    page_bytes: u16,
    changes: u32,
    pages: u32,
    schema: u32,
}

impl Header {
    /// Reads the header; `None` if the file is not an SQLite database.
    fn read(file: &File) -> Option<Self> {
        let mut bytes = [0; 100];
        file.read_exact_at(&mut bytes, 0).ok()?;
        let number = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let page_bytes = u16::from_be_bytes([bytes[16], bytes[17]]);
        bytes.starts_with(b"SQLite format 3\0").then(|| Self {
            page_bytes,
            changes: number(24),
            pages: number(28),
            schema: number(40),
        })
    }

    /// Whether this may be a later state of the same database as `before`.
    fn follows(&self, before: &Self) -> bool {
        self.page_bytes == before.page_bytes && self.changes >= before.changes && self.schema >= before.schema
    }

    /// Size of the whole database in bytes.
    fn bytes(&self) -> u64 {
        let page = if self.page_bytes == 1 { 65_536 } else { u64::from(self.page_bytes) };
        u64::from(self.pages) * page
    }
}

#[cfg(test)]
mod tests {
    use diesel::{Connection, RunQueryDsl, dsl::sql, sql_types::BigInt};

    use super::*;

    #[test]
    fn a_dropped_lock_is_free_even_while_a_copy_of_its_descriptor_is_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db");
        let lock = DatabaseFile::lock(&path).unwrap();
        let copy = lock.file.try_clone().unwrap();
        assert!(DatabaseFile::lock(&path).is_err(), "it is held");
        drop(lock);
        assert!(DatabaseFile::lock(&path).is_ok(), "it is free");
        drop(copy);
    }

    /// How many POSIX locks this process has on the file, by the kernel's list.
    fn posix_locks_on(id: FileId) -> usize {
        let (process, inode) = (std::process::id().to_string(), id.inode.to_string());
        let is_one = |line: &&str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.contains(&"POSIX") && words[4] == process && words[5].ends_with(&format!(":{inode}"))
        };
        fs::read_to_string("/proc/locks").unwrap().lines().filter(is_one).count()
    }

    #[test]
    fn a_refused_or_released_lock_does_not_release_the_locks_of_sqlite() {
        let folder = tempfile::tempdir().unwrap();
        let [path, link] = ["x.db", "link.db"].map(|name| folder.path().join(name));
        let lock = DatabaseFile::lock(&path).unwrap();
        fs::hard_link(&path, &link).unwrap();
        let mut conn = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
        conn.batch_execute("PRAGMA journal_mode = WAL; CREATE TABLE t (x)").unwrap();
        sql::<BigInt>("SELECT count(*) FROM t").get_result::<i64>(&mut conn).unwrap();
        let held = posix_locks_on(lock.id());
        assert!(held > 0);
        for name in [&path, &link] {
            assert!(DatabaseFile::lock(name).is_err());
        }
        assert_eq!(posix_locks_on(lock.id()), held, "after a refused lock");
        let id = lock.id();
        drop(lock);
        assert_eq!(posix_locks_on(id), held, "after a release");
        drop(DatabaseFile::lock(&link).unwrap());
        assert_eq!(posix_locks_on(id), held, "after a lock and release under another name");
    }

    #[test]
    fn a_header_whose_counters_decrease_does_not_follow() {
        let now = Header { page_bytes: 4096, changes: 7, pages: 10, schema: 20 };
        assert!(now.follows(&now));
        assert!(Header { changes: 8, pages: 4, schema: 21, ..now }.follows(&now), "a VACUUM");
        for other in [
            Header { changes: 6, ..now },
            Header { schema: 19, ..now },
            Header { page_bytes: 1024, ..now },
            // A backup, whose counters begin anew.
            Header { changes: 1, schema: 21, ..now },
        ] {
            assert!(!other.follows(&now), "{other:?}");
        }
        assert_eq!((now.bytes(), Header { page_bytes: 1, ..now }.bytes()), (40_960, 655_360));
    }
}
