//! The file of an SQLite database: locked for this process alone, and looked at again and again, so that nothing is
//! answered that a restart would not find.

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

use super::{StoreError, engine::sqlite::connection as sqlite};

/// Which file it is, by whichever name it is reached: device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }

    /// The file that has this name now.
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|metadata| Self::of(&metadata))
    }
}

/// The database files of this process. Each is opened once and not closed as long as it has a name: to close any
/// descriptor of a file takes away all POSIX locks that the process has on it, and SQLite's locks are such.
static FILES: Mutex<Vec<OpenFile>> = Mutex::new(Vec::new());

struct OpenFile {
    id: FileId,
    file: Arc<File>,
    is_taken: bool,
}

/// A database that is this process's own until this is dropped (also by `kill -9`): two writers over one file would each
/// believe to be the only one. The lock is on the file itself, so no second name and no deleted file gets around it.
pub(crate) struct DatabaseFile {
    path: PathBuf,
    wal: PathBuf,
    id: FileId,
    file: Arc<File>,
    /// What the last look saw; `None` until the schema is there.
    seen: Option<Seen>,
    /// The file's content is no longer what was written into it; nothing mends that but a restart.
    damage: Option<&'static str>,
    is_lost: Arc<AtomicBool>,
    /// Keeps the WAL in place: SQLite deletes it when the last connection is closed, and the next one makes another.
    keeper: Option<SqliteConnection>,
}

/// How the files looked.
struct Seen {
    header: Header,
    bytes: u64,
    modified: (i64, i64),
    wal: FileId,
    wal_bytes: u64,
}

impl DatabaseFile {
    /// Takes the file of this name, which is made if there is none.
    pub(super) fn take(path: &Path) -> Result<Self, StoreError> {
        let unavailable = |error: io::Error| StoreError::Unavailable(format!("{}: {error}", path.display()));
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder)
                .map_err(|error| StoreError::Unavailable(format!("{}: {error}", folder.display())))?;
        }
        // SQLite would begin anew, and throw away what may be all that is left.
        let bytes = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
        if bytes(path) == 0 && bytes(&wal_of(path)) > 0 {
            let advice =
                "is missing or empty, but its -wal file is there: put the database back, or move that file away";
            return Err(StoreError::Unavailable(format!("{} {advice}", path.display())));
        }
        let mut files = FILES.lock().unwrap_or_else(PoisonError::into_inner);
        files.retain(|open| open.is_taken || open.file.metadata().is_ok_and(|metadata| metadata.nlink() > 0));
        let known = FileId::at(path).ok().and_then(|id| files.iter().position(|open| open.id == id));
        let at = match known {
            Some(at) => at,
            None => {
                let mut options = File::options();
                // Its WAL gets the same rights from SQLite.
                let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
                let file = file.map_err(unavailable)?;
                let id = FileId::of(&file.metadata().map_err(unavailable)?);
                files.push(OpenFile { id, file: Arc::new(file), is_taken: false });
                files.len() - 1
            }
        };
        let open = &mut files[at];
        let in_use = || StoreError::Unavailable(format!("{} is in use by another process", path.display()));
        if open.is_taken {
            return Err(in_use());
        }
        match open.file.try_lock() {
            Ok(()) => open.is_taken = true,
            Err(TryLockError::WouldBlock) => return Err(in_use()),
            Err(TryLockError::Error(error)) => return Err(unavailable(error)),
        }
        let (id, file) = (open.id, Arc::clone(&open.file));
        let (is_lost, wal) = (Arc::default(), wal_of(path));
        Ok(Self { path: path.to_owned(), wal, id, file, seen: None, damage: None, is_lost, keeper: None })
    }

    /// Which file it is.
    pub(super) fn id(&self) -> FileId {
        self.id
    }

    /// Whether the last look found that a restart would not find what is stored.
    pub(super) fn is_lost(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_lost)
    }

    /// From here on [`look`](Self::look) compares with how the files are now. The connection has migrated the database.
    pub(super) fn watch(&mut self, mut keeper: SqliteConnection) -> Result<(), StoreError> {
        // All that an earlier run has left in the WAL goes into the file, whose header then tells one state from another.
        keeper.batch_execute("PRAGMA wal_checkpoint(TRUNCATE)")?;
        let unavailable = |error: io::Error| StoreError::Unavailable(format!("{}: {error}", self.path.display()));
        let metadata = self.file.metadata().map_err(unavailable)?;
        let wal = fs::metadata(&self.wal).map_err(unavailable)?;
        self.seen = Some(Seen {
            header: Header::of(&self.file).ok_or_else(|| StoreError::Lost(OVERWRITTEN.to_owned()))?,
            bytes: metadata.len(),
            modified: modified(&metadata),
            wal: FileId::of(&wal),
            wal_bytes: wal.len(),
        });
        self.keeper = Some(keeper);
        self.look()
    }

    /// Whether a restart would find in this place what has been written. A file that was moved away may come back; one
    /// that has been cut or overwritten stays refused. Costs two calls of `stat`.
    pub(super) fn look(&mut self) -> Result<(), StoreError> {
        let found = self.compare();
        let was_lost = self.is_lost.swap(found.is_err(), Ordering::AcqRel);
        match &found {
            Err(why) if !was_lost => log::error!("the database {} is lost: {why}", self.path.display()),
            Ok(()) if was_lost => log::warn!("the database {} is back", self.path.display()),
            _ => {}
        }
        found.map_err(StoreError::Lost)
    }

    fn compare(&mut self) -> Result<(), String> {
        if let Some(damage) = self.damage {
            return Err(damage.to_owned());
        }
        let metadata = fs::metadata(&self.path).map_err(|error| format!("its file can't be found: {error}"))?;
        if FileId::of(&metadata) != self.id {
            return Err("another file has its name".to_owned());
        }
        let Some(seen) = &mut self.seen else { return Ok(()) };
        if (metadata.len(), modified(&metadata)) != (seen.bytes, seen.modified) {
            let header = Header::of(&self.file).filter(|header| header.follows(&seen.header));
            match header {
                Some(header) if metadata.len() >= seen.bytes.min(header.bytes()) => seen.header = header,
                Some(_) => return Err(self.damaged(CUT)),
                None => return Err(self.damaged(OVERWRITTEN)),
            }
            (seen.bytes, seen.modified) = (metadata.len(), modified(&metadata));
        }
        let wal = fs::metadata(&self.wal).map_err(|error| format!("its -wal file can't be found: {error}"))?;
        if FileId::of(&wal) != seen.wal {
            return Err("another file has the name of its -wal file".to_owned());
        }
        // Shorter only when another program has brought all of it into the database and emptied it: then everything can
        // still be read.
        if wal.len() < seen.wal_bytes && !sqlite::can_read_marks(&self.path) {
            return Err(self.damaged("its -wal file has been cut"));
        }
        seen.wal_bytes = wal.len();
        Ok(())
    }

    fn damaged(&mut self, damage: &'static str) -> String {
        self.damage = Some(damage);
        damage.to_owned()
    }
}

/// The file of the newest commits: SQLite puts it beside the database, not beside a link to it.
fn wal_of(path: &Path) -> PathBuf {
    let mut wal = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()).into_os_string();
    wal.push("-wal");
    wal.into()
}

const CUT: &str = "its file has been cut";
const OVERWRITTEN: &str = "its file has been overwritten";

impl Drop for DatabaseFile {
    fn drop(&mut self) {
        // Brings the WAL into the file, if both are still in their places.
        self.keeper = None;
        let mut files = FILES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = files.iter_mut().find(|open| open.id == self.id) {
            // Not left to the end of the process: a child that is just being made may have a copy of the descriptor.
            let _ = open.file.unlock();
            open.is_taken = false;
        }
    }
}

fn modified(metadata: &Metadata) -> (i64, i64) {
    (metadata.mtime(), metadata.mtime_nsec())
}

/// What the first bytes of the file say that never goes back, whichever program writes by SQLite's rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    page_bytes: u16,
    changes: u32,
    pages: u32,
    schema: u32,
}

impl Header {
    /// `None` if the file is no database.
    fn of(file: &File) -> Option<Self> {
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

    fn follows(&self, before: &Self) -> bool {
        self.page_bytes == before.page_bytes && self.changes >= before.changes && self.schema >= before.schema
    }

    /// What the whole file takes.
    fn bytes(&self) -> u64 {
        // One stands for 65536, which 16 bits can't hold.
        let page = if self.page_bytes == 1 { 65_536 } else { u64::from(self.page_bytes) };
        u64::from(self.pages) * page
    }
}

#[cfg(test)]
mod tests {
    use diesel::{Connection, RunQueryDsl, dsl::sql, sql_types::BigInt};

    use super::*;

    #[test]
    fn a_lock_that_is_given_back_is_free_whoever_still_has_a_copy_of_its_descriptor() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db");
        let lock = DatabaseFile::take(&path).unwrap();
        let copy = lock.file.try_clone().unwrap();
        assert!(DatabaseFile::take(&path).is_err(), "it is held");
        drop(lock);
        assert!(DatabaseFile::take(&path).is_ok(), "it is free");
        drop(copy);
    }

    /// POSIX locks of this process on the file, as the kernel lists them.
    fn locks_on(id: FileId) -> usize {
        let (process, inode) = (std::process::id().to_string(), id.inode.to_string());
        let is_one = |line: &&str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.contains(&"POSIX") && words[4] == process && words[5].ends_with(&format!(":{inode}"))
        };
        fs::read_to_string("/proc/locks").unwrap().lines().filter(is_one).count()
    }

    #[test]
    fn whoever_tries_to_take_a_file_in_vain_or_gives_it_back_leaves_the_engine_its_locks() {
        let folder = tempfile::tempdir().unwrap();
        let [path, link] = ["x.db", "link.db"].map(|name| folder.path().join(name));
        let lock = DatabaseFile::take(&path).unwrap();
        fs::hard_link(&path, &link).unwrap();
        let mut conn = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
        conn.batch_execute("PRAGMA journal_mode = WAL; CREATE TABLE t (x)").unwrap();
        sql::<BigInt>("SELECT count(*) FROM t").get_result::<i64>(&mut conn).unwrap();
        let held = locks_on(lock.id());
        assert!(held > 0);
        for name in [&path, &link] {
            assert!(DatabaseFile::take(name).is_err());
        }
        assert_eq!(locks_on(lock.id()), held, "taken in vain");
        let id = lock.id();
        drop(lock);
        assert_eq!(locks_on(id), held, "given back");
        drop(DatabaseFile::take(&link).unwrap());
        assert_eq!(locks_on(id), held, "taken and given back under another name");
    }

    #[test]
    fn a_header_that_goes_back_is_another_state_s() {
        let now = Header { page_bytes: 4096, changes: 7, pages: 10, schema: 20 };
        assert!(now.follows(&now));
        assert!(Header { changes: 8, pages: 4, schema: 21, ..now }.follows(&now), "a VACUUM");
        for other in [
            Header { changes: 6, ..now },
            Header { schema: 19, ..now },
            Header { page_bytes: 1024, ..now },
            // A backup: made anew.
            Header { changes: 1, schema: 21, ..now },
        ] {
            assert!(!other.follows(&now), "{other:?}");
        }
        assert_eq!((now.bytes(), Header { page_bytes: 1, ..now }.bytes()), (40_960, 655_360));
    }
}
