//! Bids once, whatever happens on the way: each attempt has the same `Idempotency-Key`, so an answer that got lost is
//! asked for again, and the bid is not made twice.
//!
//! `cargo run --example bid -- http://127.0.0.1:8000 "$TOKEN" 1 5000`
#![allow(clippy::print_stdout)]

use std::{env, process::ExitCode, time::Duration};

use awc::Client;
use serde_json::{Value, json};

/// How often the bid is sent before its outcome stays unknown.
const ATTEMPTS_LIMIT: u32 = 8;

#[actix_web::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [base, token, goods, price] = &arguments[..] else {
        eprintln!("usage: bid URL TOKEN GOODS PRICE");
        return ExitCode::from(2);
    };
    let (Ok(goods), Ok(price)) = (goods.parse(), price.parse()) else {
        eprintln!("GOODS and PRICE are whole numbers");
        return ExitCode::from(2);
    };
    match bid(base, token, goods, price).await {
        Some((201, answer)) => {
            println!("accepted as number {}", answer["seq"]);
            ExitCode::SUCCESS
        }
        Some((status, problem)) => {
            println!("refused with {status} {}, the minimum is {}", problem["code"], problem["minimum"]);
            ExitCode::FAILURE
        }
        None => {
            println!("the outcome is unknown");
            ExitCode::FAILURE
        }
    }
}

/// Status and body of the answer; `None` if there was none.
pub async fn bid(base: &str, token: &str, goods: i64, price: i64) -> Option<(u16, Value)> {
    let url = format!("{base}/goods/{goods}/bids");
    let key = format!("{:032x}", rand::random::<u128>());
    for attempt in 0..ATTEMPTS_LIMIT {
        let request = Client::new()
            .post(&url)
            .insert_header(("Authorization", format!("Bearer {token}")))
            .insert_header(("Idempotency-Key", key.as_str()));
        if let Ok(mut answer) = request.send_json(&json!({"price": price})).await
            && !answer.status().is_server_error()
            && let Ok(body) = answer.json::<Value>().limit(64 * 1024).await
        {
            return Some((answer.status().as_u16(), body));
        }
        let pause = rand::random_range(0..=100 << attempt);
        actix_web::rt::time::sleep(Duration::from_millis(pause)).await;
    }
    None
}
