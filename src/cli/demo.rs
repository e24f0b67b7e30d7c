//! `handsup demo`: runs a node on a temporary database, with users, goods in every phase and bidding bots, and prints
//! the alarms that two users get over real WebSockets. It runs until Ctrl-C and leaves nothing behind.

use std::{io, sync::Arc, time::Duration};

use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::{
    CommandError,
    demo_bots::{Client, DemoError},
    print_line,
    serve::announce,
};
use crate::{
    app::{Node, Settings, StartError, max_sockets},
    domain::{Locale, Timestamp},
    time_source::{SystemTime, TimeSource},
};

/// The user who likes everything, and whose alarms are printed.
const MINA: i64 = 2;
/// The seller of all goods, whose alarms are printed too.
const SELLER: i64 = 1;
const NAMES: [&str; 5] = ["seller", "mina", "joon", "hana", "taeyang"];
/// Time between the beginnings of two rounds of auctions.
const ROUND_INTERVAL: Duration = Duration::from_secs(40);

pub(super) async fn run() -> Result<(), CommandError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // The terminal has been closed.
    let mut hangup = signal(SignalKind::hangup())?;
    let folder = tempfile::tempdir()?;
    let mut settings = Settings::defaults()?;
    settings.database.url = format!("sqlite://{}", folder.path().join("demo.db").display()).into();
    settings.auth.insecure_dev_secret = true;
    settings.auth.dev_login = true;
    settings.alarms.locale = Locale::En;
    settings.session.max = settings.session.max.min(max_sockets(&settings)).max(1);
    let mut node = match Node::start(&settings, Arc::new(SystemTime)) {
        Err(StartError::Bind(error)) if error.kind() == io::ErrorKind::AddrInUse => {
            settings.server.bind = "127.0.0.1:0".to_owned();
            Node::start(&settings, Arc::new(SystemTime))?
        }
        other => other?,
    };
    announce(&node);
    let base = format!("http://{}", node.addresses[0]);
    let result = tokio::select! {
        result = run_auctions(&base) => result,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        _ = hangup.recv() => Ok(()),
        () = node.failed() => Err(DemoError::ServerStopped),
    };
    print_line("\nstopping the demo");
    node.stop().await;
    Ok(result?)
}

/// Runs rounds of auctions, and returns only with an error.
async fn run_auctions(base: &str) -> Result<(), DemoError> {
    let mut clients = Vec::new();
    for (id, name) in (1i64..).zip(NAMES) {
        clients.push(Client::log_in(base, id, name).await?);
    }
    let user = |id: i64| &clients[usize::try_from(id - 1).unwrap_or(0)];
    let (mina, seller) = (user(MINA), user(SELLER));
    mina.listen("mina ");
    seller.listen("seller");
    print_line("these are the alarms of two users over their WebSockets: mina, who likes everything, and the seller\n");
    // One auction that is over, and one that starts tomorrow. Those of the rounds are live.
    goods(seller, "Bicycle (over)", -30, 10).await?;
    goods(seller, "Turntable (tomorrow)", 86_400, 1200).await?;
    // One that lasts long enough for a person to join in and bid by hand.
    let camera = goods(seller, "Film camera (bid on this one)", 1, 1200).await?;
    mina.like(camera).await?;
    print_how_to_join(base, mina, camera);
    for round in 1u32.. {
        let guitar = goods(seller, &format!("Guitar {round}"), 3, 20).await?;
        let sofa = goods(seller, &format!("Sofa {round}"), 4, 22).await?;
        let umbrella = goods(seller, &format!("Broken umbrella {round}"), 2, 12).await?;
        for goods in [guitar, sofa, umbrella] {
            mina.like(goods).await?;
        }
        let rest = tokio::time::sleep(ROUND_INTERVAL);
        // Mina wins the guitar by bidding last, and loses the sofa.
        let guitar_bids = [(user(3), 5_000), (mina, 6_000), (user(4), 7_000), (mina, 9_000)];
        let sofa_bids = [(mina, 5_000), (user(5), 6_000), (user(3), 8_000)];
        let (on_guitar, on_sofa) = (bid_in_turn(guitar, 3, &guitar_bids), bid_in_turn(sofa, 5, &sofa_bids));
        let (on_guitar, on_sofa, ()) = futures_util::join!(on_guitar, on_sofa, rest);
        on_guitar.and(on_sofa)?;
    }
    Ok(())
}

/// Places these bids one after the other, each after a pause.
async fn bid_in_turn(goods: i64, pause_s: u64, bids: &[(&Client, i64)]) -> Result<(), DemoError> {
    for (bidder, price) in bids {
        tokio::time::sleep(Duration::from_secs(pause_s)).await;
        bidder.bid(goods, *price).await?;
    }
    Ok(())
}

/// Puts goods up for auction, and returns their id.
async fn goods(seller: &Client, title: &str, starts_in_s: i64, duration_s: i64) -> Result<i64, DemoError> {
    let starts_at: Timestamp = SystemTime.now().plus_ms(starts_in_s * 1000);
    seller
        .make_goods(&json!({
            "title": title, "content": "of the demo", "category": "demo", "start_price": 5000, "predict_price": 20000,
            "starts_at": starts_at, "duration_s": duration_s, "min_increment": 500,
        }))
        .await
}

/// Prints commands with which a person can take part in the demo.
fn print_how_to_join(base: &str, mina: &Client, camera: i64) {
    let socket = base.replacen("http", "ws", 1);
    let token = mina.token();
    print_line(format_args!(
        r#"join in from another terminal (the camera is goods {camera}):
  # a token of your own
  TOKEN=$(curl -s {base}/dev/token -d '{{"user_id": 77, "username": "me"}}' | cut -d'"' -f4)
  # outbid everybody, then look at the history
  curl -s {base}/goods/{camera}/bids -H "Authorization: Bearer $TOKEN" -d '{{"price": 6000}}'; echo
  curl -s {base}/goods/{camera}/bids; echo
  # receive your alarms (or mina's, with her token)
  websocat "{socket}/ws/alarms/?since=0&token=$TOKEN"
  # watch the camera's room, and bid or talk in it
  websocat "{socket}/ws/auction/{camera}/?token=$TOKEN"
  {{"is_money": true, "message": 8000}}
  {{"is_money": false, "message": "hello"}}
  MINA={token}
"#
    ));
}
