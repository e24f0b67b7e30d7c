//! Many clients stop reading while alarms for all of them keep coming: they cost the server a bounded amount of memory,
//! they are closed in time, and clients that read get everything.

use std::{
    cell::{Cell, RefCell},
    ops::Range,
    path::Path,
    time::{Duration, Instant},
};

use futures_util::{
    StreamExt,
    future::{Either, join, join_all, select},
    stream,
};
use handsup::test_support::{
    domain::Timestamp,
    time_source::{SystemTime, TimeSource},
};
use serde_json::Value;
use tokio::net::TcpStream;

use crate::support::{Client, Process, Seed, Socket, database, eventually, stalled_socket, token};

const SELLER: i64 = 1;
const READERS: Range<i64> = 2..10;
const FIRST_DEAD: i64 = 1000;
/// Goods that start one after another, each with an alarm of more than a KiB for everybody: several times what the
/// kernel and the server buffer for a socket.
const GOODS: usize = 200;
const TITLE: &str = "🔨";
const EVERY_MS: i64 = 10;
/// An empty pong, masked with zeros.
const PONG: [u8; 6] = [0x8a, 0x80, 0, 0, 0, 0];

/// `HANDSUP_TEST_DEAD_READERS` says how many.
fn dead_users() -> Range<i64> {
    let count: i64 = std::env::var("HANDSUP_TEST_DEAD_READERS").map_or(200, |count| count.parse().expect("a number"));
    FIRST_DEAD..FIRST_DEAD + count
}

/// Makes goods that everybody likes; returns when the first of them starts. The time for that and for connecting is
/// measured, not guessed.
fn seed(database: &Path, dead: &Range<i64>) -> Timestamp {
    let seed = Seed::open(&database::url_of(database));
    let everybody = READERS.chain(dead.clone());
    seed.users([SELLER].into_iter().chain(everybody.clone()));
    let begun = Instant::now();
    let rehearsal = seed.goods(SELLER, "rehearsal", [SystemTime.now().plus_ms(86_400_000)]);
    seed.likes(&rehearsal, everybody.clone());
    let likes_take = begun.elapsed() * GOODS as u32 * 5 / 2;
    let connecting_takes = Duration::from_secs(2) + Duration::from_millis(10) * (dead.end - dead.start) as u32;
    let first = SystemTime.now().plus_ms((likes_take + connecting_takes).as_millis() as i64);
    let starts = (0..GOODS as i64).map(|nth| first.plus_ms(nth * EVERY_MS));
    let goods = seed.goods(SELLER, &TITLE.repeat(256), starts);
    seed.likes(&goods, everybody);
    seed.finish();
    first
}

/// Receives starts without end and answers pings. Notes the ids in the order of their arrival.
async fn receive_starts(socket: &mut Socket, received: &RefCell<Vec<i64>>) {
    loop {
        let alarm = socket.expect_alarm("auction_started").await;
        received.borrow_mut().push(alarm["id"].as_i64().unwrap());
    }
}

/// All send pongs until `until`, half of them without end: a pong proves that a client lives, not that it reads.
async fn give_signs_of_life(dead: &RefCell<Vec<TcpStream>>, until: Timestamp) {
    loop {
        for (nth, tcp) in dead.borrow().iter().enumerate() {
            if nth % 2 == 0 || SystemTime.now() < until {
                // The server may have closed it already.
                let _ = tcp.try_write(&PONG);
            }
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

async fn connect(process: &Process, users: &Range<i64>, dead: &RefCell<Vec<TcpStream>>) {
    let address = process.address();
    let now = SystemTime.now();
    stream::iter(users.clone())
        .map(|user| async move { stalled_socket(address, &token(user, now)).await })
        .buffer_unordered(16)
        .for_each(async |tcp| dead.borrow_mut().push(tcp))
        .await;
}

/// Open sessions and queued frames.
async fn sessions(admin: &Client) -> (i64, i64) {
    let checks = admin.get("/admin/health").await.body["checks"].take();
    let number = |value: &Value| value.as_i64().unwrap();
    (number(&checks["sessions"]["sessions"]), number(&checks["alarm_hub"]["undelivered"]))
}

#[actix_web::test]
async fn many_clients_that_stop_reading_cost_little_and_are_closed_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("x.db");
    let users = dead_users();
    let count = users.end - users.start;
    let first_start = seed(&database, &users);
    let settings =
        [("session.timeout_s", "3"), ("session.heartbeat_s", "1"), ("limits.connections_per_address", "1000000")];
    let process = Process::start_with(&database, &settings);
    let admin = process.admin();
    let readers: Vec<Client> = READERS.map(|id| process.user(id)).collect();
    let mut sockets = join_all(readers.iter().map(|reader| reader.socket())).await;
    let living = sockets.len() as i64;

    let dead = RefCell::default();
    let received: Vec<RefCell<Vec<i64>>> = sockets.iter().map(|_| RefCell::default()).collect();
    let (before, waiting_at_most) = (Cell::new(0), Cell::new(0));
    let only_the_living = async || {
        let (open, waiting) = sessions(&admin).await;
        waiting_at_most.set(waiting_at_most.get().max(waiting));
        (open == living && waiting == 0).then_some(())
    };
    let starts = async {
        connect(&process, &users, &dead).await;
        eventually("all are there", || async { (sessions(&admin).await.0 == living + count).then_some(()) }).await;
        before.set(process.memory_kib("VmRSS"));
        assert!(SystemTime.now() < first_start, "the machine is too slow for this test");
        SystemTime.wait_until(first_start).await;
        for one in &received {
            eventually("a reader's next alarms", || async {
                let _ = only_the_living().await;
                (one.borrow().len() == GOODS).then_some(())
            })
            .await;
        }
        eventually("all the dead are gone", only_the_living).await;
    };
    let receiving =
        join_all(sockets.iter_mut().zip(&received).map(|(socket, received)| receive_starts(socket, received)));
    let others = join(receiving, give_signs_of_life(&dead, first_start));
    let Either::Left(_) = select(Box::pin(starts), Box::pin(others)).await else { unreachable!("those don't end") };

    assert!(waiting_at_most.get() > count, "the dead readers' queues did not grow: {}", waiting_at_most.get());
    for (reader, received) in readers.iter().zip(received) {
        let stored: Vec<i64> = reader.inbox().await.iter().map(|alarm| alarm["id"].as_i64().unwrap()).collect();
        assert_eq!(received.into_inner(), stored);
    }
    let (before, peak, after) = (before.get(), process.memory_kib("VmHWM"), process.memory_kib("VmRSS"));
    eprintln!("{count} dead readers: {before} KiB before, {peak} KiB at most, {after} KiB after");
    eprintln!("{} frames waiting at most", waiting_at_most.get());
    let bound = before + count.unsigned_abs() * 64;
    assert!(peak.max(after) < bound, "{before} KiB before, {peak} KiB at most, {after} KiB after");
}
