//! The longest texts, in every way a client's JSON may encode them.

use actix_http::ws::Item;
use awc::ws::Message;
use handsup::test_support::{app::Settings, domain::Timestamp};
use serde_json::json;

use crate::support::{ManualTime, Socket, TestNode, claims, signed, sold_goods};

/// `limits.frame_bytes`: the default, and the least that is accepted.
const FRAME_BYTES: [Option<usize>; 2] = [None, Some(6512)];

fn limit_frames(settings: &mut Settings, frame_bytes: Option<usize>) {
    settings.limits.frame_bytes = frame_bytes.unwrap_or(settings.limits.frame_bytes);
}

/// This text with every character as a JSON escape: six bytes for most, twelve for one beyond the first 65,536.
fn escaped(text: &str) -> String {
    text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect()
}

/// A frame with everything escaped that can be, and the largest ids.
fn frame(goods: i64, user: i64, text: &str) -> String {
    let fields = [("goods_id", goods.to_string()), ("user_id", user.to_string()), ("message", text.to_owned())];
    let fields = fields.map(|(name, value)| format!("\"{}\":\"{}\"", escaped(name), escaped(&value)));
    format!("{{\"{}\":false,{}}}", escaped("is_money"), fields.join(","))
}

/// Sends the frame whole, and again in random fragments.
async fn send_in_both_ways(socket: &mut Socket, frame: &str) {
    socket.send_text(frame).await;
    let (first, rest) = frame.split_at(1);
    let (middle, last) = rest.split_at(rest.len() / 2);
    socket.send(Message::Continuation(Item::FirstText(first.to_owned().into()))).await;
    socket.send(Message::Continuation(Item::Continue(middle.to_owned().into()))).await;
    socket.send(Message::Continuation(Item::Last(last.to_owned().into()))).await;
}

#[actix_web::test]
async fn a_legal_text_is_accepted_in_every_encoding() {
    let noon = Timestamp::parse_rfc3339("2026-11-22T03:00:00Z").unwrap();
    for frame_bytes in FRAME_BYTES {
        let time = ManualTime::at(noon);
        let node = TestNode::with_time(time.clone(), |settings| limit_frames(settings, frame_bytes));
        let sold = sold_goods(&node, &time).await;
        let largest = node.client(Some(signed(&claims(&json!(i64::MAX), node.now(), &json!({})))));
        let live = node.goods(1, 0, 600).await;
        for character in ["👍", "가", "a", "\"", "\u{10ffff}"] {
            let text = character.repeat(500);
            let mut trade = node.user(2).try_trade(sold).await.expect("a socket");
            trade.expect_frame("goods_info").await;
            send_in_both_ways(&mut trade, &frame(sold, 2, &text)).await;
            for _ in 0..2 {
                assert_eq!(trade.expect_frame("message").await["message"], text, "{character}");
            }
            let line = character.repeat(100);
            let mut room = largest.room(live).await;
            room.expect_frame("enter").await;
            send_in_both_ways(&mut room, &frame(live, i64::MAX, &line)).await;
            for _ in 0..2 {
                assert_eq!(room.expect_frame("message").await["message"], line, "{character}");
            }
            room.close().await;
        }
    }
}

/// A token in a frame may be as long as one in a header.
#[actix_web::test]
async fn the_longest_token_fits_into_its_frame() {
    for frame_bytes in FRAME_BYTES {
        let node = TestNode::with(|settings| limit_frames(settings, frame_bytes));
        let of_length = |length: usize| signed(&claims(&json!(2), node.now(), &json!({"padding": "x".repeat(length)})));
        let lengths = (0..4096).rev();
        let longest = lengths.map(of_length).find(|token| token.len() <= 4096).expect("a token of the longest length");
        assert!(longest.len() > 4090, "{}", longest.len());
        let mut socket = node.user(2).socket_since(0).await;
        socket.expect_frame("hello").await;
        socket.send_json(&json!({"type": "auth", "token": longest})).await;
        socket.expect_frame("auth").await;
    }
}
