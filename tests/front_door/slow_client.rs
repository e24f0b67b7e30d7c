//! A client that stops reading: its queue is bounded, it is asked to resume, and no other client notices. On one node,
//! because a client's queue is in the node that has its socket.

use std::time::Duration;

use futures_util::future::join;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{DEADLINE, TestNode, eventually, stalled_socket};

/// Fault 14 in another form: a client that proves that it lives but reads nothing must not keep its session.
#[actix_web::test]
async fn a_client_that_answers_pings_but_does_not_read_is_closed_in_time() {
    let node = TestNode::alone(|settings| {
        settings.session.heartbeat_s = 1;
        settings.session.timeout_s = 2;
    });
    let goods = node.live_goods(1).await;
    let (victim, other) = (node.user(2), node.user(3));
    let slow = stalled_socket(node.address(), victim.token()).await;
    let slow = tokio::sync::Mutex::new(slow);
    for i in 0..800 {
        assert_eq!(victim.bid(goods, 1000 + 2 * i).await.status, 201);
        assert_eq!(other.bid(goods, 1001 + 2 * i).await.status, 201);
    }
    let admin = node.admin();
    eventually("the session ends", || async {
        // An empty masked pong, a sign of life. The socket may be gone already.
        let _ = slow.lock().await.write_all(&[0x8a, 0x80, 0, 0, 0, 0]).await;
        let checks = admin.get("/admin/health").await.body["checks"].clone();
        let gone = checks["sessions"]["sessions"] == 0 && checks["alarm_hub"]["undelivered"] == 0;
        gone.then_some(())
    })
    .await;
}

#[actix_web::test]
async fn a_client_that_stops_reading_is_closed_and_its_backlog_dropped() {
    let node = TestNode::alone(|settings| settings.session.max_pending = 16);
    let goods = node.live_goods(1).await;
    let (victim, other) = (node.user(2), node.user(3));
    let mut slow = stalled_socket(node.address(), victim.token()).await;
    let mut good = victim.socket().await;
    const TIMES: i64 = 1500;
    let bidding = async {
        for i in 0..TIMES {
            assert_eq!(victim.bid(goods, 1000 + 2 * i).await.status, 201);
            assert_eq!(other.bid(goods, 1001 + 2 * i).await.status, 201);
        }
    };
    let receiving = async {
        for i in 0..TIMES {
            assert_eq!(good.expect_alarm("outbid").await["high_price"], 1001 + 2 * i);
        }
    };
    join(bidding, receiving).await;
    let admin = node.admin();
    let health = eventually("the overflow is counted", || async {
        let health = admin.get("/admin/health").await.body;
        (health["checks"]["alarm_hub"]["outbox_overflows"] == 1).then_some(health)
    })
    .await;
    assert_eq!(health["checks"]["alarm_hub"]["undelivered"], 0, "what waited for it is dropped");
    // Once it reads again, its last frame is the close.
    let mut rest = Vec::new();
    tokio::time::timeout(DEADLINE, slow.read_to_end(&mut rest)).await.expect("the connection ends").unwrap();
    let close = [&[0x88, 2 + 32], &4413u16.to_be_bytes()[..], b"too slow, resume from the cursor"].concat();
    assert!(rest.ends_with(&close), "{:?}", String::from_utf8_lossy(&rest[rest.len().saturating_sub(80)..]));
}

/// One that reads very slowly and answers pings is closed as well, by the kernel's or the sweep's limit, whichever
/// comes first.
#[actix_web::test]
async fn a_client_that_reads_a_few_bytes_now_and_then_is_closed() {
    let node = TestNode::alone(|settings| {
        settings.session.heartbeat_s = 1;
        settings.session.timeout_s = 2;
    });
    let goods = node.live_goods(1).await;
    let (victim, other) = (node.user(2), node.user(3));
    let mut slow = stalled_socket(node.address(), victim.token()).await;
    let trickling = async {
        let mut pace = tokio::time::interval(Duration::from_millis(5));
        loop {
            pace.tick().await;
            let _ = slow.read(&mut [0; 20]).await;
            // An empty masked pong, a sign of life.
            let _ = slow.write_all(&[0x8a, 0x80, 0, 0, 0, 0]).await;
        }
    };
    let admin = node.admin();
    let receiving = async {
        for i in 0..800 {
            assert_eq!(victim.bid(goods, 1000 + 2 * i).await.status, 201);
            assert_eq!(other.bid(goods, 1001 + 2 * i).await.status, 201);
        }
        eventually("the session ends", || async {
            let checks = admin.get("/admin/health").await.body["checks"].clone();
            (checks["sessions"]["sessions"] == 0 && checks["alarm_hub"]["undelivered"] == 0).then_some(())
        })
        .await;
    };
    tokio::select! {
        () = trickling => {}
        () = receiving => {}
    }
}
