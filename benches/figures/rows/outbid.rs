//! How soon an outbid user gets the alarm: two bidders outbid each other, one bid at a time, measured from the sending
//! of the POST until the other one's alarm socket has the frame. The reference is one `fdatasync` of the same disk.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use crate::{
    row::{Reach, Report, Row, value},
    support::{
        bench_database::{BenchDatabase, FIRST_BIDDER},
        bidders::{Bidders, FIRST_PRICE},
        callers::Calls,
        disk,
        frames::{self, PING, TEXT},
        server::{Server, ServerOptions},
        sizes::Sizes,
        token,
        window::{Times, Window},
    },
};

/// One of the two bidders, with both of their connections.
struct Trader {
    bids: Bidders,
    http: TcpStream,
    socket: TcpStream,
    unread: Vec<u8>,
}

impl Trader {
    fn connect(server: SocketAddr, user: i64, goods: i64, price: i64) -> Self {
        let connect = || {
            let tcp = TcpStream::connect(server).unwrap();
            tcp.set_nodelay(true).unwrap();
            tcp.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            tcp
        };
        let (http, mut socket) = (connect(), connect());
        let path = format!("/ws/alarms/?since={}", i64::MAX / 2048);
        socket.write_all(frames::handshake(&path, Some(&token(user))).as_bytes()).unwrap();
        let mut trader =
            Self { bids: Bidders::raising_from([user].into_iter(), &[goods], price), http, socket, unread: Vec::new() };
        while frames::head_ends(&trader.unread).is_none() {
            trader.read_on();
        }
        trader.unread.drain(..frames::head_ends(&trader.unread).unwrap());
        trader.wait_for_text(b"hello");
        trader
    }

    fn read_on(&mut self) {
        let mut buffer = [0; 4096];
        let read = self.socket.read(&mut buffer).expect("something comes");
        assert!(read > 0, "the server ended a socket");
        self.unread.extend_from_slice(&buffer[..read]);
    }

    /// Waits for a text that contains this; returns when it came.
    fn wait_for_text(&mut self, needle: &[u8]) -> Instant {
        loop {
            let mut found = None;
            while let Some((kind, payload, length)) = frames::first(&self.unread) {
                match kind {
                    TEXT if payload.windows(needle.len()).any(|part| part == needle) => found = Some(Instant::now()),
                    PING => self.socket.write_all(&frames::pong(payload)).unwrap(),
                    _ => {}
                }
                self.unread.drain(..length);
            }
            match found {
                Some(at) => return at,
                None => self.read_on(),
            }
        }
    }

    fn bid(&mut self) -> Instant {
        let mut request = Vec::new();
        self.bids.next(0, &mut request);
        let sent_at = Instant::now();
        self.http.write_all(&request).unwrap();
        sent_at
    }

    fn wait_for_answer(&mut self) {
        let mut buffer = [0; 4096];
        let read = self.http.read(&mut buffer).expect("an answer");
        assert!(buffer[..read].starts_with(b"HTTP/1.1 201"), "{}", String::from_utf8_lossy(&buffer[..read]));
    }
}

/// The latencies of so many bids one after another, on an idle server or a busy one.
pub fn latencies(server: &Server, goods: i64, bids: usize) -> Times {
    let mut traders = [0, 1].map(|nth| Trader::connect(server.address, FIRST_BIDDER + nth, goods, FIRST_PRICE));
    let mut price = FIRST_PRICE;
    let mut took = Vec::new();
    for nth in 0..=bids {
        price += 1;
        let [first, second] = &mut traders;
        let (bidder, loser) = if nth % 2 == 0 { (first, second) } else { (second, first) };
        bidder.bids.set_price(price);
        let sent_at = bidder.bid();
        // The first bid outbids nobody.
        if nth > 0 {
            took.push(loser.wait_for_text(b"\"outbid\"") - sent_at);
        }
        bidder.wait_for_answer();
    }
    Times::of(took)
}

pub fn run(sizes: &Sizes) -> Report {
    let bids = sizes.of("BIDS", 2000);
    let (mut sync, mut p50, mut p99, mut most, mut cpu, mut rss) = (vec![], vec![], vec![], vec![], vec![], vec![]);
    for _ in 0..sizes.runs(5) {
        let database = BenchDatabase::new();
        let probe = || Times::of(disk::syncs(&database.folder(), 1000)).ms(0.5);
        let sync_before = probe();
        let goods = database.with_auctions(2, 1)[0];
        let server = database.serve(&ServerOptions { workers: sizes.workers(), ..ServerOptions::default() });
        let mut found = None;
        let window = Window::until(&server, || found = Some(latencies(&server, goods, bids)));
        let found = found.unwrap();
        // The quicker of two: a disk that was busy for a moment must not make the latency look better than it is.
        sync.push(sync_before.min(probe()));
        p50.push(found.ms(0.5));
        p99.push(found.ms(0.99));
        most.push(found.ms(1.0));
        cpu.push(window.micros_each(bids));
        rss.push(server.rss_mib());
    }
    let over = p50.iter().zip(&sync).map(|(p50, sync)| p50 - sync);
    Report::of_rows([Row {
        name: "outbid latency",
        figure: value("p50", " ms", p50.clone()),
        reference: value("`fdatasync`", " ms", sync.clone()),
        judged: vec![
            value("p50 above it", " ms", over).reaching(Reach::AtMost(0.5)),
            value("p99", " ms", p99).reaching(Reach::AtMost(5.0)),
        ],
        also: vec![
            value("longest", " ms", most),
            value("server's CPU a bid and its alarm", " µs", cpu),
            value("RSS", " MiB", rss),
        ],
        note: String::new(),
    }])
}
