//! The clients in `examples/`, with connections that are cut and a service that is killed.

use std::{
    cell::RefCell,
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use handsup::test_support::time_source::{SystemTime, TimeSource};
use serde_json::json;
use tempfile::TempDir;

use crate::support::{Client, Process, TestNode, eventually, goods_body};

#[allow(dead_code)]
#[path = "../../examples/alarms.rs"]
mod alarms;
#[allow(dead_code)]
#[path = "../../examples/bid.rs"]
mod bid;

/// A proxy to a service whose address may change.
struct Proxy {
    address: SocketAddr,
    service: Arc<Mutex<SocketAddr>>,
    /// Cuts the next connection when its answer comes.
    cuts_an_answer: Arc<AtomicBool>,
}

impl Proxy {
    fn to(service: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let way = Self {
            address: listener.local_addr().unwrap(),
            service: Arc::new(Mutex::new(service)),
            cuts_an_answer: Arc::default(),
        };
        let (service, cuts) = (Arc::clone(&way.service), Arc::clone(&way.cuts_an_answer));
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let to = *service.lock().unwrap();
                // Without a service the client's connection is dropped.
                if let Ok(server) = TcpStream::connect(to) {
                    join(client, server, &cuts);
                }
            }
        });
        way
    }

    fn base(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// Copies both ways until one side ends.
fn join(client: TcpStream, server: TcpStream, cuts: &Arc<AtomicBool>) {
    let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    thread::spawn(move || {
        let _ = io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Both);
    });
    let (mut client, mut server, cuts) = (client, server, Arc::clone(cuts));
    thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = server.read(&mut bytes) {
            if cuts.swap(false, Ordering::AcqRel) || client.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
    });
}

async fn live_goods(seller: Client) -> i64 {
    let body = goods_body(&json!({"starts_at": SystemTime.now(), "duration_s": 1200}));
    let made = seller.retrying().post("/goods/", &body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    made.body["id"].as_i64().unwrap()
}

/// User 2 leads, then user 3.
async fn outbid(process: &Process, goods: i64, price: i64) {
    assert_eq!(process.user(2).retrying().bid(goods, price).await.status, 201);
    assert_eq!(process.user(3).retrying().bid(goods, price + 1000).await.status, 201);
}

#[actix_web::test]
async fn the_alarms_example_prints_each_alarm_once_even_if_the_service_is_killed() {
    let folder = TempDir::new().unwrap();
    let database = folder.path().join("x.db");
    let process = Process::start(&database);
    let goods = live_goods(process.user(1)).await;
    let way = Proxy::to(process.address());
    let (base, token) = (way.base(), process.user(2).token().to_owned());
    let ids = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&ids);
    let follower = actix_web::rt::spawn(async move {
        alarms::follow(&base, &token, |alarm| seen.borrow_mut().push(alarm["id"].as_i64().unwrap())).await
    });
    let received = async |count: usize| {
        eventually("the alarms are printed", || async { (ids.borrow().len() == count).then_some(()) }).await;
    };
    outbid(&process, goods, 1000).await;
    received(1).await;
    process.kill();
    let process = Process::start(&database);
    outbid(&process, goods, 3000).await;
    *way.service.lock().unwrap() = process.address();
    received(2).await;
    outbid(&process, goods, 5000).await;
    received(3).await;
    assert!(ids.borrow().is_sorted_by(|a, b| a < b), "{ids:?}");
    // It ends if its token is invalid.
    follower.abort();
    let why = alarms::follow(&way.base(), "none", |_| panic!("an alarm")).await;
    assert!(why.contains("401"), "{why}");
}

#[actix_web::test]
async fn the_bid_example_bids_once_even_if_the_answer_is_lost() {
    let node = TestNode::start();
    let goods = node.live_goods(1).await;
    let way = Proxy::to(node.address());
    way.cuts_an_answer.store(true, Ordering::Release);
    let mina = node.user(2);
    let (status, answer) = bid::bid(&way.base(), mina.token(), goods, 1000).await.unwrap();
    assert_eq!((status, &answer["seq"]), (201, &json!(1)), "{answer}");
    assert!(!way.cuts_an_answer.load(Ordering::Acquire), "an answer was lost");
    assert_eq!(mina.history(goods).await.len(), 1);
    let (status, problem) = bid::bid(&way.base(), node.user(3).token(), goods, 1000).await.unwrap();
    assert_eq!((status, &problem["code"]), (409, &json!("bid_too_low")), "{problem}");
}
