//! Who is in a room, however sockets come and go.

use std::collections::BTreeSet;

use awc::ws::Message;
use futures_util::future::join_all;
use serde_json::json;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::support::{
    ParticipantList, Socket, TestNode, bid_frame, eventually, has_exactly, is_instant, participants, session_figures,
};

/// More watchers than a room may have in which joins and leaves are sent one by one.
const LARGE: usize = 80;

/// Asserts that nobody is in any room, and that nothing is left of earlier participants.
async fn nothing_is_left(node: &TestNode) {
    let admins = node.admins();
    eventually("empty rooms", || async {
        let figures = session_figures(&admins).await;
        let fields = ["rooms", "in_rooms", "sessions", "users"];
        fields.iter().all(|field| figures[*field] == 0).then_some(())
    })
    .await;
}

#[actix_web::test]
async fn a_user_enters_before_their_first_bid() {
    let node = TestNode::start();
    let goods = node.live_goods(1).await;
    let visitor = node.visitor();
    let mut watchers: Vec<Socket> = join_all((0..LARGE * node.nodes()).map(|_| visitor.room(goods))).await;
    for user in 100..130 {
        let client = node.user(user);
        let mut socket = client.room(goods).await;
        // Over the socket and over HTTP in turn.
        if user % 2 == 0 {
            socket.send_json(&bid_frame(goods, user, 1000 * user)).await;
        } else {
            // The request goes to any node, which must know the participant.
            if node.nodes() > 1 {
                node.wait_for_participants(goods, 1).await;
            }
            assert_eq!(client.bid(goods, 1000 * user).await.status, 201);
        }
        for watcher in watchers.iter_mut().take(3) {
            let enter = watcher.expect_frame("enter").await;
            assert_eq!((&enter["user_id"], &enter["participants_count"]), (&json!(user), &json!(1)));
            assert_eq!(watcher.expect_frame("bid").await["sender"], user);
        }
        // The user's own socket may still get the join of the one before.
        let own = async |socket: &mut Socket| loop {
            let frame = socket.next().await;
            if frame["user_id"] == user || frame["sender"] == user {
                return frame["response_type"].clone();
            }
        };
        assert_eq!((own(&mut socket).await, own(&mut socket).await), (json!("enter"), json!("bid")));
        drop(socket);
        for watcher in watchers.iter_mut().take(3) {
            assert_eq!(watcher.expect_frame("out").await["user_id"], user);
        }
    }
    drop(watchers);
    nothing_is_left(&node).await;
}

/// Fault 8: the origin counts wrongly when tabs come and go.
#[actix_web::test]
async fn fault_8_a_hundred_sockets_that_come_and_go_quickly_are_one_user() {
    let node = TestNode::with(|settings| settings.session.max_per_user = 1000);
    let goods = node.live_goods(1).await;
    let mut witness = node.visitor().room(goods).await;
    let stays = node.user(2).room(goods).await;
    witness.expect_frame("enter").await;
    // All at once, some closed in order, others just dropped.
    let come_and_go = (0..100).map(|nth| {
        let client = node.user(2);
        async move {
            let socket = client.room(goods).await;
            if nth % 2 == 0 {
                let mut socket = socket;
                socket.send(Message::Close(None)).await;
            }
        }
    });
    join_all(come_and_go).await;
    let third = node.user(3).room(goods).await;
    let entered = witness.expect_frame("enter").await;
    assert_eq!((&entered["user_id"], &entered["participants_count"]), (&json!(3), &json!(2)), "nothing before it");
    drop((stays, third));
    let mut list = ParticipantList(BTreeSet::from([2, 3]));
    list.apply(&witness.next().await);
    list.apply(&witness.next().await);
    // A single user joins and leaves as often as their first and last sockets do.
    for _ in 0..20 {
        join_all((0..5).map(|_| async { drop(node.user(2).room(goods).await) })).await;
    }
    let last = node.user(4).room(goods).await;
    loop {
        let frame = witness.next().await;
        list.apply(&frame);
        if frame["user_id"] == 4 {
            break;
        }
    }
    if !list.0.contains(&2) {
        assert_eq!(list.0, BTreeSet::from([4]));
    } else {
        list.apply(&witness.next().await);
    }
    eventually("the user is gone", || async {
        (participants(&node.visitor(), goods).await == (json!(1), json!([{"id": 4, "user": "name4"}]))).then_some(())
    })
    .await;
    drop((last, witness));
    nothing_is_left(&node).await;
}

#[actix_web::test]
async fn joins_and_leaves_of_many_users_alternate_in_small_and_large_rooms() {
    for watchers in [0, LARGE] {
        let node = TestNode::start();
        let goods = node.live_goods(1).await;
        let visitor = node.visitor();
        let _watchers = join_all((0..watchers * node.nodes()).map(|_| visitor.room(goods))).await;
        let mut witness = visitor.room(goods).await;
        let come_and_go = (100..140).map(|user| {
            let client = node.user(user);
            async move {
                for _ in 0..3 {
                    drop(client.room(goods).await);
                }
                client.room(goods).await
            }
        });
        let mut stay = join_all(come_and_go).await;
        let mut list = ParticipantList::default();
        let everybody: BTreeSet<i64> = (100..140).collect();
        let end = node.user(999).room(goods).await;
        while !list.0.contains(&999) || list.0.len() < 41 {
            list.apply(&witness.next().await);
        }
        // A user whose last frame is their own join is there; late closes of their other tabs change nothing.
        assert!(list.0.is_superset(&everybody));
        assert_eq!(participants(&node.visitor(), goods).await.0, 41);
        for socket in stay.drain(..) {
            drop(socket);
        }
        while list.0.len() > 1 {
            list.apply(&witness.next().await);
        }
        assert_eq!(list.0, BTreeSet::from([999]));
        drop((end, witness, _watchers));
        nothing_is_left(&node).await;
    }
}

#[actix_web::test]
async fn a_socket_that_ends_during_its_handshake_leaves_no_trace() {
    let node = TestNode::with(|settings| settings.session.max_per_user = 1000);
    let goods = node.live_goods(1).await;
    let mut witness = node.visitor().room(goods).await;
    let stays = node.user(3).room(goods).await;
    let mut list = ParticipantList::default();
    list.apply(&witness.next().await);
    let token = node.user(2).token().to_owned();
    let handshake = format!(
        "GET /ws/auction/{goods}/?token={token} HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    join_all((0..150).map(|nth| {
        let (handshake, address) = (&handshake, node.address());
        async move {
            let mut tcp = TcpStream::connect(address).await.unwrap();
            tcp.write_all(handshake.as_bytes()).await.unwrap();
            match nth % 3 {
                // Ends at once in order, at once with a reset, or after a first byte.
                0 => drop(tcp),
                1 => {
                    socket2::SockRef::from(&tcp).set_linger(Some(std::time::Duration::ZERO)).unwrap();
                    drop(tcp);
                }
                _ => {
                    let _ = tcp.readable().await;
                }
            }
        }
    }))
    .await;
    let last = node.user(4).room(goods).await;
    // However often the user joined and left: the frames alternate, and in the end the user is not there.
    eventually("the user is gone", || async {
        let there = json!([{"id": 3, "user": "name3"}, {"id": 4, "user": "name4"}]);
        (participants(&node.visitor(), goods).await.1 == there).then_some(())
    })
    .await;
    let end = node.user(5).room(goods).await;
    loop {
        let frame = witness.next().await;
        list.apply(&frame);
        if frame["user_id"] == 5 {
            break;
        }
    }
    assert_eq!(list.0, BTreeSet::from([3, 4, 5]));
    node.wait_for_participants(goods, 3).await;
    let figures = session_figures(&node.admins()).await;
    let rooms = json!(node.nodes());
    assert_eq!((&figures["rooms"], &figures["in_rooms"], &figures["users"]), (&rooms, &json!(4), &json!(3)));
    drop((stays, last, end, witness));
    nothing_is_left(&node).await;
}

#[actix_web::test]
async fn rooms_that_everybody_has_left_are_forgotten() {
    let node = TestNode::with(|settings| settings.session.max_per_user = 1000);
    let mut goods = Vec::new();
    for _ in 0..20 {
        goods.push(node.live_goods(1).await);
    }
    for _ in 0..3 {
        let sockets = join_all(goods.iter().flat_map(|goods| {
            let clients = [node.visitor(), node.user(2), node.user(3)];
            clients.into_iter().map(move |client| async move { client.room(*goods).await })
        }))
        .await;
        for goods in &goods {
            node.wait_for_participants(*goods, 2).await;
        }
        let figures = session_figures(&node.admins()).await;
        assert_eq!((&figures["rooms"], &figures["in_rooms"]), (&json!(20 * node.nodes()), &json!(60)));
        assert_eq!(figures["sessions"], 60);
        // On one node or on several.
        let users = figures["users"].as_u64().unwrap() as usize;
        assert!((2..=2 * node.nodes()).contains(&users), "{users}");
        drop(sockets);
        nothing_is_left(&node).await;
    }
}

/// On two nodes, visitors of the other one count too.
#[actix_web::test]
async fn everybody_in_a_room_hears_how_many_watch() {
    let node = TestNode::start();
    let goods = node.live_goods(1).await;
    let mut visitors = [node.visitor().room(goods).await, node.visitor().room(goods).await];
    let mut user = node.user(2).room(goods).await;
    let second_tab = node.user(2).room(goods).await;
    for socket in visitors.iter_mut().chain([&mut user]) {
        let mut frame = socket.next_watchers().await;
        // It may have been sent before the last one came.
        while frame["watchers"] != 3 {
            frame = socket.next_watchers().await;
        }
        assert!(is_instant(&frame["server_time"]), "{frame}");
        has_exactly(&frame, vec!["response_type", "watchers", "server_time"]);
    }
    let page = node.visitor().get(&format!("/goods/{goods}/")).await.body;
    assert_eq!((&page["watchers"], &page["participants_count"]), (&json!(3), &json!(1)));
    assert_eq!(node.visitor().get("/goods/").await.body[0]["watchers"], 3);
    let [first, second] = visitors;
    first.close().await;
    second_tab.close().await;
    while user.next_watchers().await["watchers"] != 2 {}
    second.close().await;
    while user.next_watchers().await["watchers"] != 1 {}
}
