//! `handsup demo`: a fresh throw-away database, users, goods in every state, bot bidders, and what one user hears over
//! a real WebSocket. It ends with Ctrl-C, and nothing of it stays.

use std::{io, sync::Arc, time::Duration};

use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::{CommandError, demo_bots::Client, say, serve::announce};
use crate::{
    app::{Node, Settings, StartError, most_sockets},
    domain::Timestamp,
    time_source::{SystemTime, TimeSource},
};

/// The user whose alarms are printed, and the seller of everything.
const WATCHED: i64 = 2;
const SELLER: i64 = 1;
const NAMES: [&str; 5] = ["seller", "mina", "joon", "hana", "taeyang"];
/// A round of auctions begins this often.
const ROUND: Duration = Duration::from_secs(40);

pub(super) async fn run() -> Result<(), CommandError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // Its terminal is closed.
    let mut hangup = signal(SignalKind::hangup())?;
    let folder = tempfile::tempdir()?;
    let mut settings = Settings::defaults()?;
    settings.database.url = format!("sqlite://{}", folder.path().join("demo.db").display());
    settings.auth.insecure_dev_secret = true;
    settings.auth.dev_login = true;
    settings.alarms.locale = "en".to_owned();
    settings.session.max = settings.session.max.min(most_sockets(&settings)).max(1);
    let mut node = match Node::start(&settings, Arc::new(SystemTime)) {
        Err(StartError::Bind(error)) if error.kind() == io::ErrorKind::AddrInUse => {
            settings.server.bind = "127.0.0.1:0".to_owned();
            Node::start(&settings, Arc::new(SystemTime))?
        }
        other => other?,
    };
    announce(&node);
    let base = format!("http://{}", node.addresses[0]);
    let played = tokio::select! {
        played = play(&base) => played,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        _ = hangup.recv() => Ok(()),
        () = node.failed() => Err("the server has ended".to_owned()),
    };
    say("\nending the demo");
    node.stop().await;
    played.map_err(CommandError::Demo)
}

/// Plays rounds of auctions until it is stopped.
async fn play(base: &str) -> Result<(), String> {
    let mut clients = Vec::new();
    for (id, name) in (1i64..).zip(NAMES) {
        clients.push(Client::log_in(base, id, name).await?);
    }
    let user = |id: i64| &clients[usize::try_from(id - 1).unwrap_or(0)];
    let (watched, seller) = (user(WATCHED), user(SELLER));
    watched.listen("mina ");
    seller.listen("seller");
    say("below is what two users hear over their WebSockets: mina, who likes everything, and the seller\n");
    // Goods that only lie ahead, and some that are over already; those of the rounds are live.
    goods(seller, "Bicycle (over)", -30, 10).await?;
    goods(seller, "Turntable (tomorrow)", 86_400, 1200).await?;
    // One for whoever joins in: long enough to bid by hand.
    let open = goods(seller, "Film camera (bid on this one)", 1, 1200).await?;
    watched.like(open).await?;
    how_to_join(base, watched, open);
    for round in 1u32.. {
        let contested = goods(seller, &format!("Guitar {round}"), 3, 20).await?;
        let lost = goods(seller, &format!("Sofa {round}"), 4, 22).await?;
        let unwanted = goods(seller, &format!("Broken umbrella {round}"), 2, 12).await?;
        for goods in [contested, lost, unwanted] {
            watched.like(goods).await?;
        }
        let rest = tokio::time::sleep(ROUND);
        // Mina wins the guitar by bidding last, and loses the sofa.
        let guitar = [(user(3), 5_000), (watched, 6_000), (user(4), 7_000), (watched, 9_000)];
        let sofa = [(watched, 5_000), (user(5), 6_000), (user(3), 8_000)];
        let (guitar, sofa) = (bidding(contested, 3, &guitar), bidding(lost, 5, &sofa));
        let (guitar, sofa, ()) = futures_util::join!(guitar, sofa, rest);
        guitar.and(sofa)?;
    }
    Ok(())
}

/// Bots bid in turn, a few seconds apart.
async fn bidding(goods: i64, wait_s: u64, bids: &[(&Client, i64)]) -> Result<(), String> {
    for (bidder, price) in bids {
        tokio::time::sleep(Duration::from_secs(wait_s)).await;
        bidder.bid(goods, *price).await?;
    }
    Ok(())
}

async fn goods(seller: &Client, title: &str, starts_in_s: i64, duration_s: i64) -> Result<i64, String> {
    let starts_at: Timestamp = SystemTime.now().plus_ms(starts_in_s * 1000);
    seller
        .make_goods(&json!({
            "title": title, "content": "of the demo", "category": "demo", "start_price": 5000, "predict_price": 20000,
            "starts_at": starts_at, "duration_s": duration_s, "min_increment": 500,
        }))
        .await
}

fn how_to_join(base: &str, watched: &Client, open: i64) {
    let socket = base.replacen("http", "ws", 1);
    say(format_args!("join in from another terminal (the camera is goods {open}):"));
    say(format_args!("  # a token of your own"));
    say(format_args!(
        "  TOKEN=$(curl -s {base}/dev/token -d '{{\"user_id\": 77, \"username\": \"me\"}}' | cut -d'\"' -f4)"
    ));
    say(format_args!("  # outbid everybody, then look at the history"));
    say(format_args!(
        "  curl -s {base}/goods/{open}/bids -H \"Authorization: Bearer $TOKEN\" -d '{{\"price\": 6000}}'; echo"
    ));
    say(format_args!("  curl -s {base}/goods/{open}/bids; echo"));
    say(format_args!("  # hear your alarms (or mina's, with her token)"));
    say(format_args!("  websocat \"{socket}/ws/alarms/?since=0&token=$TOKEN\""));
    say(format_args!("  # watch the camera's room, and bid or talk in it"));
    say(format_args!("  websocat \"{socket}/ws/auction/{open}/?token=$TOKEN\""));
    say(format_args!("  {{\"is_money\": true, \"message\": 8000}}"));
    say(format_args!("  {{\"is_money\": false, \"message\": \"hello\"}}"));
    say(format_args!("  MINA={}\n", watched.token()));
}
