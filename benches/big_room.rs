//! A big room: ten thousand watch an auction in which somebody bids or speaks every second. How soon does the last one
//! hear it, and what does a frame cost?
//!
//! `cargo bench --bench big_room -- WATCHERS=1000 USERS=100`; all sizes are in `Sizes`. The server is the real program,
//! as a process of its own; who watches is one thread of this one. The reference is a bare loop that writes the same
//! encoded frame to as many sockets, in the same run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs)]

#[path = "support/listeners.rs"]
mod listeners;
#[allow(dead_code)] // Likes are of the other bench.
#[path = "../tests/front_door/support/seed.rs"]
mod seed;
#[path = "support/server.rs"]
mod server;

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    time::{Duration, Instant},
};

use handsup::{
    domain::UserId,
    http::{Keys, NewToken},
    time_source::{SystemTime, TimeSource},
};

use self::{
    listeners::{Listeners, Opening},
    seed::Seed,
    server::{Server, own_cpu},
};

const SELLER: i64 = 1;
const BIDDER: i64 = 2;
const FIRST_USER: i64 = 10_000;
const PATIENCE: Duration = Duration::from_secs(30);

/// What can be set, as `NAME=value`.
struct Sizes {
    /// Sockets in the room.
    watchers: i64,
    /// How many of them are logged-in users, whose coming everybody hears.
    users: i64,
    /// Bids, one after another.
    bids: i64,
    /// From one bid to the next.
    every: Duration,
}

impl Sizes {
    fn from_arguments() -> Self {
        let mut sizes = Self { watchers: 10_000, users: 2_000, bids: 15, every: Duration::from_secs(1) };
        for argument in std::env::args().skip(1).filter(|argument| !argument.starts_with("--")) {
            let (name, value) = argument.split_once('=').expect("NAME=value");
            let value: u32 = value.parse().expect("a number");
            match name {
                "WATCHERS" => sizes.watchers = value.into(),
                "USERS" => sizes.users = value.into(),
                "BIDS" => sizes.bids = value.into(),
                "EVERY_MS" => sizes.every = Duration::from_millis(value.into()),
                _ => panic!("{name}: WATCHERS, USERS, BIDS or EVERY_MS"),
            }
        }
        assert!(sizes.users <= sizes.watchers, "users are watchers");
        sizes
    }
}

/// A token for an hour.
fn token(user: i64) -> String {
    let new = NewToken { user: UserId::from_stored(user), username: None, ttl_s: 3600, admin: false };
    Keys::new(server::SECRET, None).mint(&new, SystemTime.now()).unwrap()
}

/// Bids over a connection that stays; returns when the answer is there.
fn bid(server: &mut TcpStream, goods: i64, price: i64, token: &str) {
    let body = format!("{{\"price\":{price}}}");
    let length = body.len();
    write!(
        server,
        "POST /goods/{goods}/bids HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = [0; 2048];
    let read = server.read(&mut answer).unwrap();
    assert!(answer[..read].starts_with(b"HTTP/1.1 201"), "{}", String::from_utf8_lossy(&answer[..read]));
}

/// CPU time of a frame in a bare loop that writes it to as many sockets.
fn bare_loop(sockets: i64, frame: &[u8], rounds: u32) -> Duration {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut ends = Vec::new();
    for _ in 0..sockets {
        let reader = TcpStream::connect(address).unwrap();
        let (writer, _) = listener.accept().unwrap();
        writer.set_nodelay(true).unwrap();
        ends.push((writer, reader));
    }
    let mut spent = Duration::ZERO;
    let mut buffer = [0; 4096];
    for _ in 0..rounds {
        let before = own_cpu();
        for (writer, _) in &mut ends {
            writer.write_all(frame).unwrap();
        }
        spent += own_cpu().since(&before).1;
        for (_, reader) in &mut ends {
            assert!(reader.read(&mut buffer).unwrap() > 0);
        }
    }
    spent / (rounds * u32::try_from(sockets).unwrap())
}

fn main() {
    // `cargo bench` says so; anything else that starts this program only wants to know that it is there.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let sizes = Sizes::from_arguments();
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("bench.db");
    let seed = Seed::open(&format!("sqlite://{}", database.display()));
    seed.users([SELLER, BIDDER].into_iter().chain(FIRST_USER..FIRST_USER + sizes.users));
    let goods = seed.goods(SELLER, "room", [SystemTime.now()])[0];
    seed.finish();
    // Half as many sockets as the room: both ends of the loop are in this process.
    let looped = bare_loop((sizes.watchers / 2).min(5000), &[b'x'; 290], 10);

    let server = Server::start(&database, sizes.watchers);
    let opening = |nth: i64| Opening {
        path: format!("/ws/auction/{goods}/"),
        token: (nth < sizes.users).then(|| token(FIRST_USER + nth)),
        greeting: None,
    };
    let (entering, alone_kib) = (server.cpu(), server.rss_kib());
    let watchers = Listeners::connect(server.address, (0..sizes.watchers).map(opening).collect(), "\"bid\"");
    let entered = server.cpu().since(&entering).1;
    let mut connection = TcpStream::connect(server.address).unwrap();
    connection.set_nodelay(true).unwrap();
    let bidder = token(BIDDER);
    // The first bid finds everybody there, and what was gathered of their coming leaves with it.
    bid(&mut connection, goods, 1000, &bidder);
    watchers.wait_for_all(PATIENCE);

    let connected_kib = server.rss_kib();
    let (before, begun) = (server.cpu(), Instant::now());
    let mut last_heard: Vec<f64> = Vec::new();
    for nth in 1..=sizes.bids {
        let sent = Instant::now();
        bid(&mut connection, goods, 1000 + nth, &bidder);
        let heard = watchers.wait_for_all(PATIENCE);
        last_heard.push((*heard.last().unwrap() - sent).as_secs_f64() * 1e3);
        std::thread::sleep(
            (begun + sizes.every * u32::try_from(nth).unwrap()).saturating_duration_since(Instant::now()),
        );
    }
    let lasted = begun.elapsed();
    let spent = server.cpu().since(&before).1;
    watchers.stop();

    let frames = sizes.bids * sizes.watchers;
    last_heard.sort_by(f64::total_cmp);
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    let a_frame = micros(spent) / frames as f64;
    println!("\n{} watchers, {} of them users; {} bids", sizes.watchers, sizes.users, sizes.bids);
    println!("coming in: {:.2} s of the server's CPU", entered.as_secs_f64());
    println!(
        "from the bid to the last watcher: median {:.1} ms, longest {:.1} ms",
        last_heard[last_heard.len() / 2],
        last_heard.last().unwrap()
    );
    println!(
        "a watcher: {:.1} KiB of the server's memory",
        connected_kib.saturating_sub(alone_kib) as f64 / sizes.watchers.max(1) as f64
    );
    println!("server's CPU: {:.1} % of one core", 100.0 * spent.as_secs_f64() / lasted.as_secs_f64());
    println!(
        "server's CPU a frame: {a_frame:.2} µs; a bare loop: {:.2} µs; ratio {:.2}",
        micros(looped),
        a_frame / micros(looped)
    );
}
