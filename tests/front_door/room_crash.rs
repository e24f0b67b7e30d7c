//! Rooms of the real program when it is killed: every frame that was received is stored, and no ghost is left behind.

use futures_util::future::join_all;
use handsup::test_support::time_source::{SystemTime, TimeSource};
use serde_json::{Value, json};

use crate::support::{
    Process, Socket, bid_frame, check_history, check_outbids, count, eventually, goods_body, line_frame,
    session_figures,
};

const SELLER: i64 = 1;
const USERS: std::ops::Range<i64> = 100..108;

async fn live_goods(process: &Process) -> i64 {
    let made = process.user(SELLER).post("/goods/", &goods_body(&json!({"starts_at": SystemTime.now()}))).await;
    let goods = made.body["id"].as_i64().expect("goods");
    let (visitor, page) = (process.visitor(), format!("/goods/{goods}/"));
    eventually("the start", || async { (visitor.get(&page).await.body["status"] == true).then_some(()) }).await;
    goods
}

/// Everybody enters, each with two tabs and all at once.
async fn come_in(process: &Process, goods: i64) -> Vec<(i64, Socket)> {
    let tabs = USERS.chain(USERS).map(|user| {
        let client = process.user(user);
        async move { (user, client.room(goods).await) }
    });
    join_all(tabs).await
}

async fn participants(process: &Process, goods: i64) -> Vec<i64> {
    let page = process.visitor().get(&format!("/goods/{goods}/")).await.body;
    let present = page["participants"].as_array().unwrap();
    assert_eq!(page["participants_count"].as_u64(), Some(present.len() as u64));
    present.iter().map(|user| user["id"].as_i64().unwrap()).collect()
}

/// Bids and writes lines over this socket until it ends; returns the frames that it received.
async fn speak(user: i64, socket: &mut Socket, goods: i64, round: i64) -> Vec<Value> {
    let mut received = Vec::new();
    for nth in 0.. {
        let price = 1000 + round * 1_000_000 + nth * 100 + user;
        socket.try_send_json(&bid_frame(goods, user, price)).await;
        socket.try_send_json(&line_frame(goods, user, &format!("{user}.{round}.{nth}"))).await;
        // One answer to each: the user's own bid or an alert, and their own line.
        let (mut bid, mut line) = (false, false);
        while !(bid && line) {
            let Some(frame) = socket.try_next().await else { return received };
            let own = frame["sender"] == user;
            bid |= frame["response_type"] == "alert" || (own && frame["response_type"] == "bid");
            line |= own && frame["response_type"] == "message";
            received.push(frame);
        }
    }
    received
}

/// Fault 8: in the origin a user who was in a room when it crashed stays there for ever.
#[actix_web::test]
async fn fault_8_after_a_kill_rooms_are_empty_and_every_frame_received_in_them_is_stored() {
    const KILLS: i64 = 3;
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("x.db");
    let settings = [("limits.lines_per_second", "100000")];
    let mut process = Process::start_with(&database, &settings);
    let goods = live_goods(&process).await;
    let mut bids = Vec::new();
    let mut lines = std::collections::BTreeSet::new();
    for round in 0..KILLS {
        assert_eq!(participants(&process, goods).await, Vec::<i64>::new(), "after a start the room is empty");
        let figures = session_figures(&[process.admin()]).await;
        assert_eq!((&figures["rooms"], &figures["in_rooms"]), (&json!(0), &json!(0)));
        let mut witness = process.visitor().room(goods).await;
        let mut sockets = come_in(&process, goods).await;
        assert_eq!(participants(&process, goods).await, USERS.collect::<Vec<_>>(), "each once");
        for nth in 1..=USERS.end - USERS.start {
            assert_eq!(witness.expect_frame("enter").await["participants_count"], nth);
        }
        let speaking = join_all(sockets.iter_mut().map(|(user, socket)| speak(*user, socket, goods, round)));
        let killing = async {
            let mut received = Vec::new();
            while received.len() < 150 {
                received.push(witness.next().await);
            }
            // The next commit may be anywhere.
            process.kill();
            received.extend(witness.until_gone().await);
            received
        };
        let (spoken, received) = futures_util::future::join(speaking, killing).await;
        for frame in spoken.into_iter().flatten().chain(received) {
            match frame["response_type"].as_str().unwrap() {
                "bid" => bids.push(frame),
                "message" => {
                    lines.insert(frame["message"].as_str().unwrap().to_owned());
                }
                _ => {}
            }
        }
        process = Process::start_with(&database, &settings);
        let history = process.visitor().history(goods).await;
        check_history(&history);
        for bid in &bids {
            let stored = history.get(bid["seq"].as_u64().unwrap() as usize - 1);
            let stored = stored.unwrap_or_else(|| panic!("{bid} was received and is lost"));
            // Some fields have other names in a frame than in the history.
            for (received, field) in [("bid_id", "bid_id"), ("sender", "user_id"), ("high_price", "price")] {
                assert_eq!(stored[field], bid[received], "{field} of {bid}");
            }
        }
        for line in &lines {
            let rows = format!("room_lines WHERE content = '{line}'");
            assert!(count(&database, &rows) >= 1, "{line} was received and is lost");
        }
        let bidders: Vec<_> = USERS.map(|user| (user, process.user(user))).collect();
        check_outbids(goods, &history, &bidders).await;
    }
    assert!(bids.len() > 100 && lines.len() > 100, "{} bids, {} lines", bids.len(), lines.len());
}
