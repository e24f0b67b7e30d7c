//! Rows by the thousand and million, written by SQL while no server has the (SQLite) database open: the ledger would
//! take minutes.

use handsup::test_support::{
    domain::Timestamp,
    time_source::{SystemTime, TimeSource},
};

use super::bench_database::{BenchDatabase, FIRST_BIDDER, FIRST_LISTENER, SELLER};

/// `SELECT … FROM nth` with n from 0 to many − 1.
fn counted(many: usize, select: &str) -> String {
    let last = many.saturating_sub(1);
    format!(
        "WITH RECURSIVE nth(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM nth WHERE n < {last}) SELECT {select} FROM nth"
    )
}

/// So many users from this id on.
pub fn users(database: &BenchDatabase, first: i64, many: usize) {
    let rows = counted(many, &format!("{first} + n, 'name' || n, '/media/default.jpeg', 40, 1, 0"));
    database.sql(&format!("INSERT INTO users (id, username, profile_image, rating_score, is_active, named_at) {rows}"));
}

/// So many goods that have ended long ago, from this id on.
pub fn ended_goods(database: &BenchDatabase, first: i64, many: usize) {
    let rows = counted(
        many,
        &format!(
            "{first} + n, {SELLER}, 'old camera ' || n, 'seeded', '기타', 1000, 1000, 1, 1600000000000000 + n, \
             1600001000000000 + n, 1600000000000000, 2, 0, 1"
        ),
    );
    database.sql(&format!(
        "INSERT INTO goods (id, seller_id, title, content, category, start_price, predict_price, min_increment, \
         starts_at, ends_at, created_at, phase, bid_seq, ending_soon_done) {rows}; \
         UPDATE id_counters SET goods = (SELECT MAX(id) FROM goods)"
    ));
}

/// So many users, from the first listener on, like these goods.
pub fn likes(database: &BenchDatabase, goods: &[i64], many: usize) {
    for one in goods {
        let rows =
            counted(many, &format!("(SELECT like_mark FROM id_counters) + 1 + n, {one}, {FIRST_LISTENER} + n, 0"));
        database.sql(&format!(
            "INSERT INTO likes (id, goods_id, user_id, removed) {rows}; \
             UPDATE id_counters SET like_mark = like_mark + {many}; \
             UPDATE goods SET like_count = {many} WHERE id = {one}"
        ));
    }
}

/// So many users, from the first listener on, have bid on these goods, and another user leads.
pub fn bids(database: &BenchDatabase, goods: &[i64], many: usize) {
    let all = many + 1;
    for one in goods {
        let bidder = format!("CASE n WHEN {many} THEN {FIRST_BIDDER} ELSE {FIRST_LISTENER} + n END");
        let rows = counted(
            all,
            &format!("(SELECT bid FROM id_counters) + 1 + n, {one}, n + 1, {bidder}, 1000 + n, 1700000000000000"),
        );
        database.sql(&format!(
            "INSERT INTO bids (id, goods_id, seq, user_id, price, created_at) {rows}; \
             INSERT INTO bidders SELECT goods_id, user_id, seq, seq FROM bids WHERE goods_id = {one}; \
             UPDATE id_counters SET bid = bid + {all}; \
             UPDATE goods SET phase = 1, high_price = 1000 + {many}, high_bidder_id = {FIRST_BIDDER}, bid_seq = {all} \
             WHERE id = {one}"
        ));
    }
}

/// Alarms with 500 receivers each in the inboxes of so many users from the first listener on, all received and read.
pub fn inboxes(database: &BenchDatabase, users: usize, alarms_each: usize) {
    const CHUNK: usize = 500;
    let alarms = users * alarms_each / CHUNK;
    // Created yesterday: the server would remove alarms older than `alarms.keep_days`.
    let created_at = SystemTime.now().plus_ms(-86_400_000).micros();
    let rows = counted(
        alarms,
        &format!("1 + n, 1 + n, 'auction_started', 1, 'old camera', {created_at} + n, NULL, 1800000000000000, 1000"),
    );
    database.sql(&format!(
        "INSERT INTO alarms (id, event_id, kind, goods_id, goods_title, created_at, high_price, ends_at, start_price) \
         {rows}; UPDATE id_counters SET alarm = {alarms}"
    ));
    // In the order of the key, so that ten million rows are appended rather than sorted in.
    let groups = users / CHUNK;
    let rows = counted(
        users * alarms_each,
        &format!(
            "{FIRST_LISTENER} + n / {alarms_each}, 1 + (n % {alarms_each}) * {groups} + n / {alarms_each} / {CHUNK}, 0"
        ),
    );
    database.sql(&format!(
        "INSERT INTO inbox (user_id, alarm_id, is_read) {rows}; \
         UPDATE users SET received_up_to = {alarms}, read_up_to = {alarms} WHERE id >= {FIRST_LISTENER}"
    ));
}

/// Moves the start or the end of goods.
pub fn start_at(database: &BenchDatabase, goods: &[i64], at: Timestamp) {
    set_time(database, goods, "starts_at", at);
}

pub fn end_at(database: &BenchDatabase, goods: &[i64], at: Timestamp) {
    set_time(database, goods, "ends_at", at);
}

fn set_time(database: &BenchDatabase, goods: &[i64], column: &str, at: Timestamp) {
    let ids: Vec<String> = goods.iter().map(i64::to_string).collect();
    database.sql(&format!("UPDATE goods SET {column} = {} WHERE id IN ({})", at.micros(), ids.join(",")));
}

/// The time in so long.
pub fn from_now(later: std::time::Duration) -> Timestamp {
    SystemTime.now().plus_ms(later.as_millis() as i64)
}
