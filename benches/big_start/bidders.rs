//! Bidders over HTTP, one connection each, on one thread: a bid, its answer, the next bid.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::LocalSet,
};

/// One answered bid. Bids that another one overtook on the way are refused.
pub struct Bid {
    pub sent_at: Instant,
    pub took: Duration,
    pub accepted: bool,
}

pub struct Bidders {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Bid>>,
}

impl Bidders {
    pub fn start(server: SocketAddr, tokens: Vec<String>, goods: Vec<i64>, pause: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            LocalSet::new().block_on(&runtime, bid_all(server, tokens, goods, pause, told))
        });
        Self { stop, thread }
    }

    /// All bids, when the last ones are answered.
    pub fn stop(self) -> Vec<Bid> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("every bid is answered")
    }
}

async fn bid_all(
    server: SocketAddr,
    tokens: Vec<String>,
    goods: Vec<i64>,
    pause: Duration,
    stop: Arc<AtomicBool>,
) -> Vec<Bid> {
    // Goods and the last price that somebody has offered for them: the prices of all bidders rise together.
    let goods: Rc<Vec<(i64, Cell<i64>)>> = Rc::new(goods.into_iter().map(|id| (id, Cell::new(1000))).collect());
    let bids = Rc::new(RefCell::new(Vec::new()));
    let mut bidding = Vec::new();
    for (nth, token) in tokens.into_iter().enumerate() {
        let (goods, bids, stop) = (Rc::clone(&goods), Rc::clone(&bids), Arc::clone(&stop));
        bidding.push(tokio::task::spawn_local(async move {
            let mut bidder = Bidder::connect(server, token).await;
            let (id, price) = &goods[nth % goods.len()];
            while !stop.load(Ordering::Relaxed) {
                price.set(price.get() + 1);
                let bid = bidder.bid(*id, price.get()).await;
                bids.borrow_mut().push(bid);
                if !pause.is_zero() {
                    tokio::time::sleep(pause).await;
                }
            }
        }));
    }
    for one in bidding {
        one.await.expect("every bid is answered");
    }
    bids.take()
}

struct Bidder {
    tcp: TcpStream,
    token: String,
    answer: Vec<u8>,
}

impl Bidder {
    async fn connect(server: SocketAddr, token: String) -> Self {
        let tcp = TcpStream::connect(server).await.expect("a connection");
        tcp.set_nodelay(true).unwrap();
        Self { tcp, token, answer: Vec::new() }
    }

    async fn bid(&mut self, goods: i64, price: i64) -> Bid {
        let body = format!("{{\"price\":{price}}}");
        let request = format!(
            "POST /goods/{goods}/bids HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.token,
            body.len()
        );
        let sent_at = Instant::now();
        self.tcp.write_all(request.as_bytes()).await.expect("the server is there");
        let status = self.status().await;
        assert!(matches!(status, 201 | 409), "a bid was answered {status}");
        Bid { sent_at, took: sent_at.elapsed(), accepted: status == 201 }
    }

    /// Reads one whole answer.
    async fn status(&mut self) -> u16 {
        self.answer.clear();
        loop {
            let read = self.tcp.read_buf(&mut self.answer).await.expect("the server is there");
            assert!(read > 0, "the server is there");
            if let Some(status) = whole(&self.answer) {
                return status;
            }
        }
    }
}

/// The status of an answer that is there as a whole.
fn whole(answer: &[u8]) -> Option<u16> {
    let head_ends = answer.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&answer[..head_ends]).expect("a head in ASCII").to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"))?;
    let length: usize = length.trim().parse().expect("a number");
    (answer.len() >= head_ends + length).then(|| head[9..12].parse().expect("a status"))
}
