//! Checks of bids, alarms and fields that hold after any test.

use handsup::test_support::domain::Timestamp;
use serde_json::Value;

use super::{Client, SLOW_DEADLINE, eventually_within};

/// Waits until the clock has done everything that is due at `at` and every fan-out is complete. `admin` is an admin's
/// client.
pub async fn wait_until_settled(admin: &Client, at: Timestamp) {
    // A health answer is not a snapshot of one moment: the second check sees what changed during the first.
    for _ in 0..2 {
        let poll = || async { is_settled(admin, at).await.then_some(()) };
        eventually_within(SLOW_DEADLINE, "what is due", poll).await;
    }
}

async fn is_settled(admin: &Client, at: Timestamp) -> bool {
    let checks = admin.get("/admin/health").await.body["checks"].take();
    let (clock, ledger) = (&checks["auction_clock"], &checks["ledger"]);
    // If the database could not be read in time, nothing overdue is known either.
    let is_readable = checks["database"]["status"] == "pass";
    let has_ticked = clock["last_tick"].as_str().is_some_and(|tick| tick >= at.rfc3339().as_str());
    let is_idle = clock["oldest_overdue"].is_null() && clock["under_way"] == 0;
    is_readable && has_ticked && is_idle && ledger["open_fanouts"] == 0
}

/// Whether this node has nothing under way.
pub async fn is_idle(admin: &Client) -> bool {
    let checks = admin.get("/admin/health").await.body["checks"].take();
    checks["auction_clock"]["under_way"] == 0 && checks["ledger"]["open_fanouts"] == 0
}

/// The id of an alarm, of a frame or of an inbox row.
pub fn alarm_id(alarm: &Value) -> i64 {
    alarm["id"].as_i64().unwrap_or_else(|| panic!("no alarm: {alarm}"))
}

/// Prices strictly rise, and `seq` counts from 1 without gaps.
pub fn check_history(history: &[Value]) {
    let seqs: Vec<i64> = history.iter().map(|bid| bid["seq"].as_i64().unwrap()).collect();
    assert_eq!(seqs, (1..=history.len() as i64).collect::<Vec<_>>(), "no gaps");
    let rises = |pair: &[Value]| pair[0]["price"].as_i64().unwrap() < pair[1]["price"].as_i64().unwrap();
    assert!(history.windows(2).all(rises), "strictly rising: {history:?}");
}

/// Every bid on these goods that was answered with 201 is in the history as it was answered.
pub fn check_answered<'a>(history: &[Value], answered: impl IntoIterator<Item = &'a Value>) {
    for bid in answered {
        let seq = usize::try_from(bid["seq"].as_i64().unwrap()).unwrap();
        let stored = history.get(seq - 1).unwrap_or_else(|| panic!("{bid} is lost"));
        for field in ["bid_id", "seq", "user_id", "price", "created_at"] {
            assert_eq!(stored[field], bid[field], "{field} of {bid}");
        }
    }
}

/// Each change of the leader is one `outbid` in the inbox of the previous leader, in this order, and there is no other.
/// `bidders` are all who bid on these goods.
pub async fn check_outbids(goods: i64, history: &[Value], bidders: &[(i64, Client)]) {
    for (user, bidder) in bidders {
        let took_over = |pair: &&[Value]| pair[0]["user_id"] == *user && pair[1]["user_id"] != *user;
        let expected: Vec<&Value> = history.windows(2).filter(took_over).map(|pair| &pair[1]["price"]).collect();
        let inbox = bidder.inbox().await;
        let ids: Vec<i64> = inbox.iter().map(alarm_id).collect();
        assert!(ids.is_sorted_by(|a, b| a < b), "ids strictly rise: {ids:?}");
        let is_outbid = |alarm: &&Value| alarm["kind"] == "outbid" && alarm["goods_id"] == goods;
        let received: Vec<&Value> = inbox.iter().filter(is_outbid).map(|alarm| &alarm["high_price"]).collect();
        assert_eq!(received, expected, "outbids of user {user} on goods {goods}");
    }
}

/// Asserts that an object has these fields and no others.
pub fn has_exactly(value: &Value, mut expected: Vec<&str>) {
    let mut fields: Vec<&str> = value.as_object().expect("an object").keys().map(String::as_str).collect();
    fields.sort_unstable();
    expected.sort_unstable();
    assert_eq!(fields, expected);
}

/// The frame without its `server_time`, which it must have.
pub fn without_time(mut frame: Value) -> Value {
    let time = frame.as_object_mut().and_then(|frame| frame.remove("server_time"));
    assert!(time.as_ref().is_some_and(is_instant), "{frame}");
    frame
}

/// RFC 3339 in UTC with three digits, as `2026-11-22T08:29:27.865Z`.
pub fn is_instant(value: &Value) -> bool {
    let Some(text) = value.as_str() else { return false };
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    shape == "0000-00-00T00:00:00.000Z" && Timestamp::parse_rfc3339(text).is_some()
}
