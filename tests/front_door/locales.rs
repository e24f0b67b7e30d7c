//! The language of texts: that which a user has chosen, else `alarms.locale`; live, from the inbox, replayed, as
//! server-sent events, in refusals; in force at once for open sockets, on all nodes.

use std::time::{Duration, Instant};

use handsup::test_support::domain::Locale;
use serde_json::{Value, json};

use crate::{
    clock::{SELLER, accepted, noon},
    events::Stream,
    nodes_alarms::{socket_since, sockets_since},
    support::{
        Client, ManualTime, Nodes, Socket, TestNode, bid_frame, can_run_several_nodes, eventually, outbid_times,
        trade_frame,
    },
};

const OUTBID_KO: &str = "다른 핸더가 입찰했어요!";
const OUTBID_EN: &str = "Another bidder has outbid you!";
const TOO_LOW_KO: &str = "현재 입찰가보다 낮거나 종료된 경매입니다.";
const TOO_LOW_EN: &str = "The bid is too low, or the auction is not live.";

async fn choose(user: &Client, locale: &Value) {
    let answer = user.put("/alarms/preferences", &json!({"locale": locale})).await;
    assert_eq!((answer.status, &answer.body["locale"]), (200, locale), "{}", answer.text);
}

/// The texts of the inbox, oldest first.
async fn texts(user: &Client) -> Vec<String> {
    user.inbox().await.iter().map(|alarm| alarm["message"].as_str().unwrap().to_owned()).collect()
}

/// The next alarm's text.
async fn text(socket: &mut Socket) -> String {
    socket.next().await["message"].as_str().expect("an alarm").to_owned()
}

#[actix_web::test]
async fn a_language_is_kept_beside_the_muted_kinds_and_what_is_left_out_stays() {
    let node = TestNode::start();
    let user = node.user(2);
    let set = async |body: Value| {
        let answer = user.put("/alarms/preferences", &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(user.get("/alarms/preferences").await.body, answer.body);
        answer.body
    };
    assert_eq!(set(json!({})).await, json!({"muted": [], "locale": null}));
    assert_eq!(set(json!({"locale": "en"})).await, json!({"muted": [], "locale": "en"}));
    assert_eq!(
        set(json!({"muted": ["notice", "outbid"]})).await,
        json!({"muted": ["outbid", "notice"], "locale": "en"})
    );
    assert_eq!(set(json!({"locale": "ko"})).await, json!({"muted": ["outbid", "notice"], "locale": "ko"}));
    // Quiet hours are not known yet, and what is unknown is ignored.
    let quiet = json!({"quiet": {"from": "22:00"}, "colour": 1});
    assert_eq!(set(quiet).await, json!({"muted": ["outbid", "notice"], "locale": "ko"}));
    let node = node.restart();
    let kept = node.user(2).get("/alarms/preferences").await.body;
    assert_eq!(kept, json!({"muted": ["outbid", "notice"], "locale": "ko"}));
    let answer = node.user(2).put("/alarms/preferences", &json!({"muted": [], "locale": null})).await;
    assert_eq!(answer.body, json!({"muted": [], "locale": null}));
    assert_eq!(node.user(3).get("/alarms/preferences").await.body, json!({"muted": [], "locale": null}));
    // A new name, or an admin's change, leaves it.
    choose(&node.user(2), &json!("en")).await;
    assert_eq!(node.admin().put("/admin/users/2", &json!({"username": "renamed"})).await.status, 200);
    assert_eq!(node.user(2).get("/alarms/preferences").await.body["locale"], "en");
}

#[actix_web::test]
async fn every_text_comes_in_its_users_language() {
    for default in [Locale::Ko, Locale::En] {
        let time = ManualTime::at(noon());
        let node = TestNode::with_time(time.clone(), |settings| settings.alarms.locale = default);
        let own = match default {
            Locale::Ko => "en",
            Locale::En => "ko",
        };
        // Users 1 and 2 have chosen the other language, 3 and 4 none.
        for user in [1, 2] {
            choose(&node.user(user), &json!(own)).await;
        }
        let goods = node.goods(1, 10_000, 600).await;
        for user in [2, 3] {
            node.user(user).like(goods).await;
        }
        let mut sockets = Vec::new();
        for user in 1..=4 {
            sockets.push(socket_since(&node.user(user), 0).await);
        }
        let mut stream = Stream::open(&node, node.user(2).token(), "/alarms/stream?since=0", "");
        assert_eq!(stream.data()["response_type"], "hello");
        time.advance_ms(10_000);
        eventually("the start", || async { (node.user(4).bid(goods, 1000).await.status == 201).then_some(()) }).await;
        for (user, price) in [(2, 2000), (3, 3000), (2, 4000)] {
            assert_eq!(node.user(user).bid(goods, price).await.status, 201);
        }
        time.advance_ms(540_000);
        eventually("the last minute", || async { (texts(&node.user(3)).await.len() == 3).then_some(()) }).await;
        time.advance_ms(60_000);
        eventually("the end", || async { (texts(&node.user(1)).await.len() == 1).then_some(()) }).await;
        let [started, outbid, soon, won, sold] = if own == "en" {
            [
                "The auction has started",
                OUTBID_EN,
                "The auction ends soon!",
                "You won the auction!",
                "Your item has been sold!",
            ]
        } else {
            ["경매가 시작됐어요", OUTBID_KO, "경매가 곧 끝나요!", "낙찰 되었습니다!", "상품이 낙찰됐어요!"]
        };
        assert_eq!(texts(&node.user(1)).await, [sold]);
        let expected = [started, outbid, soon, won];
        assert_eq!(texts(&node.user(2)).await, expected);
        for expected in expected {
            assert_eq!(text(&mut sockets[1]).await, expected, "live");
            assert_eq!(stream.data()["message"], expected, "as an event");
        }
        assert_eq!(text(&mut sockets[0]).await, sold);
        let mut replayed = socket_since(&node.user(2), 0).await;
        for expected in expected {
            assert_eq!(text(&mut replayed).await, expected, "replayed");
        }
        // The others have the configured language.
        let (third, fourth) = (texts(&node.user(3)).await, texts(&node.user(4)).await);
        assert!(![&third[..], &fourth[..]].concat().iter().any(|text| expected.contains(&text.as_str())));
        for (socket, expected) in [(2, &third), (3, &fourth)] {
            for expected in expected {
                assert_eq!(text(&mut sockets[socket]).await, *expected);
            }
        }
        // What somebody has written stays as it is.
        let mut trade = node.user(1).try_trade(goods).await.expect("a socket");
        trade.expect_frame("goods_info").await;
        trade.send_json(&trade_frame(goods, 1, "안녕 hello")).await;
        assert_eq!(text(&mut sockets[1]).await, "안녕 hello");
    }
}

#[actix_web::test]
async fn a_refusal_comes_in_its_authors_language() {
    let node = TestNode::start();
    let goods = node.live_goods(1).await;
    choose(&node.user(2), &json!("en")).await;
    for (user, expected) in [(2, TOO_LOW_EN), (3, TOO_LOW_KO)] {
        let mut alarms = socket_since(&node.user(user), 0).await;
        let mut room = node.user(user).room(goods).await;
        room.expect_frame("enter").await;
        room.send_json(&bid_frame(goods, user, 1)).await;
        let alert = room.expect_frame("alert").await;
        assert_eq!((&alert["message"], &alert["code"]), (&json!(expected), &json!("bid_too_low")));
        assert_eq!(alarms.expect_frame("alert").await["message"], expected);
        room.close().await;
    }
    // Also on a socket that was open before, and back again.
    let mut room = node.user(3).room(goods).await;
    room.expect_frame("enter").await;
    for (locale, expected) in [(json!("en"), TOO_LOW_EN), (json!(null), TOO_LOW_KO)] {
        choose(&node.user(3), &locale).await;
        loop {
            room.send_json(&bid_frame(goods, 3, 1)).await;
            let alert = room.expect_frame("alert").await;
            // The socket may be at another node, which hears of it within moments.
            if alert["message"] == expected {
                break;
            }
            assert!(node.nodes() > 1, "{alert}");
        }
    }
}

/// On one node the very next alarm comes in the new language, whatever is under way.
#[actix_web::test]
async fn a_change_is_in_force_at_once_for_open_sockets() {
    let node = TestNode::alone(|_| {});
    let user = node.user(2);
    let mut sockets = [socket_since(&user, 0).await, socket_since(&user, 0).await];
    let mut stream = Stream::open(&node, user.token(), "/alarms/stream?since=0", "");
    assert_eq!(stream.data()["response_type"], "hello");
    let texts_of =
        [(json!("en"), OUTBID_EN), (json!("ko"), OUTBID_KO), (json!("en"), OUTBID_EN), (json!(null), OUTBID_KO)];
    for (locale, expected) in texts_of {
        choose(&user, &locale).await;
        outbid_times(&node, 1).await;
        for socket in &mut sockets {
            assert_eq!(text(socket).await, expected);
        }
        assert_eq!(stream.data()["message"], expected);
        assert!(texts(&user).await.iter().all(|text| text == expected), "the inbox too, also what came before");
    }
}

#[actix_web::test]
async fn a_language_chosen_at_one_node_is_in_force_at_all() {
    if !can_run_several_nodes() {
        return;
    }
    let nodes = Nodes::start(2).await;
    let [a, b] = [&nodes[0], &nodes[1]];
    let mut sockets = sockets_since(&nodes, 2, 0).await;
    for (chosen_at, locale, expected) in [
        (a, json!("en"), OUTBID_EN),
        (b, json!(null), OUTBID_KO),
        (b, json!("en"), OUTBID_EN),
        (a, json!("ko"), OUTBID_KO),
    ] {
        choose(&chosen_at.user(2), &locale).await;
        // The choice and the alarm take the same way from that node.
        let goods = chosen_at.live_goods(SELLER).await;
        accepted(&chosen_at.user(2), goods, 1000).await;
        accepted(&chosen_at.user(3), goods, 2000).await;
        for socket in &mut sockets {
            assert_eq!(text(socket).await, expected);
        }
        for node in nodes.iter() {
            assert!(texts(&node.user(2)).await.iter().all(|text| text == expected));
            assert_eq!(text(&mut socket_since(&node.user(2), 0).await).await, expected, "replayed");
        }
    }
}

/// What the bus has lost is noticed by the inbox check.
#[actix_web::test]
async fn a_language_is_in_force_within_seconds_at_a_node_that_did_not_hear_of_it() {
    if !can_run_several_nodes() {
        return;
    }
    let nodes = Nodes::start(2).await;
    let mut socket = socket_since(&nodes[1].user(2), 0).await;
    let goods = nodes[1].live_goods(SELLER).await;
    nodes.redis.suspend();
    choose(&nodes[0].user(2), &json!("en")).await;
    let begun = Instant::now();
    for price in (1000..).step_by(2) {
        accepted(&nodes[1].user(2), goods, price).await;
        accepted(&nodes[1].user(3), goods, price + 1).await;
        if text(&mut socket).await == OUTBID_EN {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    nodes.redis.resume();
}
