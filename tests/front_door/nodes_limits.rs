//! A user's limits over all nodes together: how many sockets they may have, and that a refused user is refused
//! everywhere.

use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};
use serde_json::json;

use crate::{
    clock::SELLER,
    events::Stream,
    support::{
        Client, Fleet, Nodes, Socket, TestNode, can_run_several_nodes, claims, eventually, eventually_within, signed,
    },
};

/// The default of `session.max_per_user`.
const USER_SOCKETS_LIMIT: usize = 16;
/// One more socket of this user, after its greeting.
pub async fn one_more(client: &Client) -> Socket {
    let mut socket = client.socket_since(0).await;
    socket.expect_frame("hello").await;
    socket
}

/// As many sockets as the user may have, at these nodes in turn.
async fn open_all(clients: &[Client]) -> Vec<Socket> {
    let mut open = Vec::new();
    for at in 0..USER_SOCKETS_LIMIT {
        open.push(one_more(&clients[at % clients.len()]).await);
    }
    open
}

/// Whether the socket is still open. Otherwise it was closed because the user has too many.
async fn is_open(socket: &mut Socket) -> bool {
    socket.try_send_json(&json!({"type": "ping"})).await;
    match socket.text_or_close().await {
        Ok(pong) => {
            assert_eq!(pong["response_type"], "pong");
            true
        }
        Err(closed) => {
            assert_eq!(closed.code, Some(4409));
            false
        }
    }
}

async fn all_are_open(sockets: &mut [Socket]) {
    for (at, socket) in sockets.iter_mut().enumerate() {
        assert!(is_open(socket).await, "socket {at}");
    }
}

/// Waits until the socket is closed because the user has too many. Its node may be another one than the newest
/// socket's.
async fn is_evicted(socket: &mut Socket) {
    assert_eq!(socket.closed().await.code, Some(4409));
}

/// The number of sockets on all nodes.
async fn sessions(nodes: &Nodes) -> i64 {
    let admins: Vec<Client> = nodes.iter().map(TestNode::admin).collect();
    crate::support::session_figures(&admins).await["sessions"].as_i64().unwrap()
}

#[actix_web::test]
async fn a_socket_over_the_users_limit_on_all_nodes_closes_the_oldest_one() {
    if !can_run_several_nodes() {
        return;
    }
    let nodes = Nodes::start(2).await;
    let goods = nodes[0].live_goods(SELLER).await;
    let clients = nodes.users(2);
    let mut open = open_all(&clients).await;
    for client in &clients {
        // A stream gets no place while all are taken.
        assert_eq!(client.get("/alarms/stream").await.status, 204);
    }
    all_are_open(&mut open).await;
    // The first one was opened at the first node, the second one at the second.
    let mut next = one_more(&clients[1]).await;
    is_evicted(&mut open.remove(0)).await;
    let mut room = clients[0].room(goods).await;
    room.expect_frame("enter").await;
    // A room's socket counts too.
    is_evicted(&mut open.remove(0)).await;
    // Another user's sockets do not count.
    one_more(&nodes[1].user(3)).await;
    all_are_open(&mut open).await;
    assert!(is_open(&mut next).await);
    drop((open, next, room));
    eventually("all places are free", || async { (sessions(&nodes).await == 0).then_some(()) }).await;
    // All at once at both nodes: so many stay.
    let uncounted = async || nodes.bus_figures("uncounted").await.iter().sum::<u64>() as usize;
    let before = uncounted().await;
    let mut came = join_all((0..USER_SOCKETS_LIMIT * 2).map(|at| clients[at % 2].socket_since(0))).await;
    let mut stayed = 0;
    for socket in &mut came {
        match socket.text_or_close().await {
            Ok(hello) => {
                assert_eq!(hello["response_type"], "hello");
                stayed += usize::from(is_open(socket).await);
            }
            Err(closed) => assert_eq!(closed.code, Some(4409)),
        }
    }
    // A socket that cannot be counted in time is let in, which happens on a busy machine.
    let may = USER_SOCKETS_LIMIT + uncounted().await - before;
    eventually("so many are left", || async { (sessions(&nodes).await <= may as i64).then_some(()) }).await;
    assert!(stayed >= USER_SOCKETS_LIMIT, "only {stayed}");
}

#[actix_web::test]
async fn a_user_who_comes_from_a_node_that_is_killed_or_stops_is_let_in_at_once() {
    if !can_run_several_nodes() {
        return;
    }
    let fleet = Fleet::start(2, &[]).await;
    let client = |at: usize| fleet.user(at, 2).unwrap();
    let open = open_all(&[client(1)]).await;
    fleet.kill(1);
    let mut again = open_all(&[client(0)]).await;
    all_are_open(&mut again).await;
    drop(open);
    fleet.start_at(1).await;
    fleet.end(0).await;
    let mut again = open_all(&[client(1)]).await;
    all_are_open(&mut again).await;
}

#[actix_web::test]
async fn sockets_are_counted_again_after_redis_is_lost() {
    if !can_run_several_nodes() {
        return;
    }
    let mut nodes = Nodes::start(2).await;
    let clients = nodes.users(2);
    let mut open = open_all(&clients).await;
    nodes.redis.kill();
    nodes.wait_for_bus_status("warn").await;
    // Each node counts its own sockets while it is alone.
    let before = nodes.bus_figures("uncounted").await[0];
    open.push(one_more(&clients[0]).await);
    assert_eq!(nodes.bus_figures("uncounted").await[0], before + 1);
    all_are_open(&mut open).await;
    nodes.redis.start_again();
    nodes.wait_for_bus_status("pass").await;
    nodes.wait_for_peers().await;
    // With the next one, those over the limit are closed, as soon as all are counted again.
    let mut newer = Vec::new();
    for client in &clients {
        let newest = eventually("the user has so many again", || async {
            let newest = one_more(client).await;
            (sessions(&nodes).await <= USER_SOCKETS_LIMIT as i64).then_some(newest)
        });
        newer.push(newest.await);
    }
    // The oldest ones.
    for socket in &mut open[..2] {
        is_evicted(socket).await;
    }
    all_are_open(&mut newer).await;
}

/// A user is refused at one node: asserts what that closes at all nodes, and what is refused from then on.
async fn is_out_everywhere(nodes: &Nodes, user: i64, within: Duration, sockets: &mut [Socket]) {
    let begun = Instant::now();
    for client in nodes.users(user) {
        eventually_within(within, "the user is refused", || async {
            let answer = client.get("/alarms/unread").await;
            (answer.status == 401 && answer.code() == "unauthorized").then_some(())
        })
        .await;
        assert_eq!(client.bid(1, 1000).await.status, 401);
        assert_eq!(client.try_room(1).await.err(), Some(401));
    }
    for socket in sockets {
        assert_eq!(socket.closed().await.code, Some(4401));
    }
    assert!(begun.elapsed() < within, "{:?}", begun.elapsed());
}

async fn set_active(node: &TestNode, user: i64, is_active: bool) {
    let changed = node.admin().put(&format!("/admin/users/{user}"), &json!({"is_active": is_active})).await;
    assert_eq!(changed.status, 200, "{}", changed.text);
}

#[actix_web::test]
async fn a_user_who_is_refused_at_one_node_is_refused_at_all() {
    if !can_run_several_nodes() {
        return;
    }
    let nodes = Nodes::start(3).await;
    let goods = nodes[0].live_goods(SELLER).await;
    let mut sockets = Vec::new();
    for client in nodes.users(7) {
        let mut alarms = client.socket_since(0).await;
        alarms.expect_frame("hello").await;
        sockets.extend([alarms, client.room(goods).await]);
    }
    let mut stream = Stream::open(&nodes[2], nodes[2].user(7).token(), "/alarms/stream?since=0", "");
    stream.data();
    let mut bystander = nodes[1].user(8).socket_since(0).await;
    bystander.expect_frame("hello").await;
    set_active(&nodes[1], 7, false).await;
    is_out_everywhere(&nodes, 7, Duration::from_secs(2), &mut sockets).await;
    assert!(stream.is_closed_with("4401"));
    set_active(&nodes[2], 7, true).await;
    for client in nodes.users(7) {
        eventually("the user is back", || async { (client.get("/alarms/unread").await.status == 200).then_some(()) })
            .await;
        one_more(&client).await;
    }
    bystander.send_json(&json!({"type": "ping"})).await;
    bystander.expect_frame("pong").await;
}

#[actix_web::test]
async fn a_user_who_is_refused_while_redis_is_down_is_refused_at_all_nodes_within_seconds() {
    if !can_run_several_nodes() {
        return;
    }
    for is_silent in [false, true] {
        let mut nodes = Nodes::start(2).await;
        let goods = nodes[0].live_goods(SELLER).await;
        let mut sockets = Vec::new();
        for client in nodes.users(7) {
            let mut alarms = client.socket_since(0).await;
            alarms.expect_frame("hello").await;
            sockets.extend([alarms, client.room(goods).await]);
        }
        if is_silent {
            nodes.redis.suspend();
        } else {
            nodes.redis.kill();
        }
        let begun = Instant::now();
        set_active(&nodes[1], 7, false).await;
        is_out_everywhere(&nodes, 7, Duration::from_secs(9), &mut sockets).await;
        eprintln!("silent: {is_silent}; the user was out after {:?}", begun.elapsed());
        if is_silent {
            nodes.redis.resume();
        }
    }
}

/// The user's other node stores their new name at the same moment: whichever comes first, they are refused at all
/// nodes.
#[actix_web::test]
async fn a_user_who_is_refused_while_another_node_changes_them_is_refused_at_all() {
    const USERS: i64 = 60;
    if !can_run_several_nodes() {
        return;
    }
    let nodes = Nodes::start(3).await;
    let now = nodes[0].now();
    let named = |at: usize, user: i64, name: &str, iat: i64| {
        let own = json!({"iat": iat, "username": name});
        Client::new(nodes[at].base(), Some(signed(&claims(&json!(user), now, &own))))
    };
    for user in (1000..).take(USERS as usize) {
        for at in 0..3 {
            assert_eq!(named(at, user, "before", now.secs() - 100).get("/alarms/unread").await.status, 200);
        }
    }
    join_all((1000..).take(USERS as usize).map(|user| {
        let renamed = [named(0, user, "other", now.secs() - 50), named(2, user, "third", now.secs() - 40)];
        let nodes = &nodes;
        async move {
            let [first, second] = &renamed;
            let names = join(first.get("/alarms/unread"), second.get("/alarms/unread"));
            join(names, set_active(&nodes[1], user, false)).await;
        }
    }))
    .await;
    let mut wrong = Vec::new();
    for user in (1000..).take(USERS as usize) {
        for at in 0..3 {
            let client = named(at, user, "before", now.secs() - 100);
            let give_up = Instant::now() + Duration::from_secs(2);
            while client.get("/alarms/unread").await.status != 401 {
                if Instant::now() > give_up {
                    wrong.push((user, at));
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    assert_eq!(wrong, [], "they may go on (user, node)");
}

/// A late event from the bus is older than what the node itself has stored since.
#[actix_web::test]
async fn a_late_event_about_a_user_undoes_no_newer_change() {
    if !can_run_several_nodes() {
        return;
    }
    let nodes = Nodes::start(2).await;
    let now = nodes[0].now();
    let named = |at: usize, name: &str, iat: i64| {
        let own = json!({"iat": iat, "username": name});
        Client::new(nodes[at].base(), Some(signed(&claims(&json!(7), now, &own))))
    };
    let old = [named(0, "before", now.secs() - 100), named(1, "before", now.secs() - 100)];
    for client in &old {
        assert_eq!(client.get("/alarms/unread").await.status, 200);
    }
    nodes.redis.suspend();
    // Stored at the first node, and on its way to the second, …
    assert_eq!(named(0, "after", now.secs() - 50).get("/alarms/unread").await.status, 200);
    // … which stores that the user is refused before the event arrives.
    set_active(&nodes[1], 7, false).await;
    assert_eq!(old[1].get("/alarms/unread").await.status, 401);
    nodes.redis.resume();
    eventually("the event has arrived", || async { (old[0].get("/alarms/unread").await.status == 401).then_some(()) })
        .await;
    // Behind all events that were on their way.
    let goods = nodes[0].live_goods(SELLER).await;
    let mut room = nodes[1].visitor().room(goods).await;
    let _comes = nodes[0].user(8).room(goods).await;
    room.expect_frame("enter").await;
    assert_eq!(old[1].get("/alarms/unread").await.status, 401, "the user stays refused");
}

#[actix_web::test]
async fn two_services_on_one_redis_do_not_disturb_each_other() {
    if !can_run_several_nodes() {
        return;
    }
    let nodes = Nodes::start(2).await;
    let url = nodes.redis.url();
    let other = TestNode::with(|settings| settings.bus.url = Some(url.into()));
    eventually("its bus", || async {
        (crate::support::bus_health(&other.admin()).await["status"] == "pass").then_some(())
    })
    .await;
    // The other service has the same ids of goods and users.
    let (goods, same) = (nodes[0].live_goods(SELLER).await, other.live_goods(SELLER).await);
    assert_eq!(goods, same);
    let mut alarms = other.user(2).socket_since(0).await;
    alarms.expect_frame("hello").await;
    let mut room = other.visitor().room(goods).await;
    let _present = nodes[0].user(5).room(goods).await;
    let mut sockets = open_all(&nodes.users(2)).await;
    for (user, price) in [(2, 1000), (3, 2000)] {
        assert_eq!(nodes[1].user(user).bid(goods, price).await.status, 201);
    }
    for (user, price) in [(2, 1500), (3, 2500)] {
        assert_eq!(other.user(user).bid(goods, price).await.status, 201);
    }
    assert_eq!(alarms.expect_alarm("outbid").await["high_price"], 2500, "the first alarm that arrives there");
    assert_eq!(room.expect_frame("bid").await["high_price"], 1500, "and no join before it");
    one_more(&other.user(2)).await;
    for socket in &mut sockets {
        socket.expect_alarm("outbid").await;
    }
    // Each service counts its own sockets.
    all_are_open(&mut sockets).await;
    assert_eq!(crate::support::bus_health(&other.admin()).await["others"], 0);
    assert_eq!(nodes.bus_figures("others").await, [1, 1]);
    drop(sockets);
}

/// Garbage on the channels, and messages repeated by somebody else.
#[actix_web::test]
async fn garbage_on_the_channels_harms_nobody_and_is_counted() {
    if !can_run_several_nodes() {
        return;
    }
    let nodes = Nodes::start(2).await;
    let goods = nodes[0].live_goods(SELLER).await;
    let mut alarms = nodes[1].user(2).socket_since(0).await;
    alarms.expect_frame("hello").await;
    let mut room = nodes[1].visitor().room(goods).await;
    let client = redis::Client::open(nodes.redis.url()).unwrap();
    let mut conn = client.get_connection().unwrap();
    let channels: Vec<String> = redis::cmd("PUBSUB").arg("CHANNELS").arg("handsup:*").query(&mut conn).unwrap();
    assert!(channels.len() >= 3, "{channels:?}");
    // A subscriber of the test's own.
    let mut subscriber = client.get_connection().unwrap();
    subscriber.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut subscriber = subscriber.as_pubsub();
    subscriber.psubscribe("handsup:*").unwrap();
    for (user, price) in [(2, 1000), (3, 2000)] {
        assert_eq!(nodes[0].user(user).bid(goods, price).await.status, 201);
    }
    let mut said: Vec<(String, Vec<u8>)> = Vec::new();
    // Two bids and an alarm.
    while said.len() < 3 {
        let message = subscriber.get_message().expect("a message of the nodes");
        let channel = message.get_channel_name().to_owned();
        if !channel.ends_with("nodes") {
            said.push((channel, message.get_payload_bytes().to_vec()));
        }
    }
    assert_eq!(alarms.expect_alarm("outbid").await["high_price"], 2000);
    for seq in [1, 2] {
        assert_eq!(room.expect_frame("bid").await["seq"], seq);
    }
    let before = nodes.bus_figures("garbled").await;
    let mut publish = |channel: &str, bytes: &[u8]| {
        redis::cmd("PUBLISH").arg(channel).arg(bytes).query::<i64>(&mut conn).unwrap();
    };
    let mut garbage = 0;
    for channel in &channels {
        for bytes in [&b""[..], b"hello", &[0xff; 40], &[0; 1], &[7; 100_000]] {
            publish(channel, bytes);
            garbage += 1;
        }
    }
    for (channel, bytes) in &said {
        for length in [1, bytes.len() / 2, bytes.len() - 1] {
            publish(channel, &bytes[..length]);
            garbage += 1;
        }
        // Again, twice.
        publish(channel, bytes);
        publish(channel, bytes);
    }
    eprintln!("{garbage} pieces of garbage on {channels:?}");
    eventually("it is counted", || async {
        let after = nodes.bus_figures("garbled").await;
        (after.iter().zip(&before).all(|(after, before)| *after >= before + 5)).then_some(())
    })
    .await;
    for (user, price) in [(2, 3000), (3, 4000)] {
        assert_eq!(nodes[0].user(user).bid(goods, price).await.status, 201);
    }
    assert_eq!(alarms.expect_alarm("outbid").await["high_price"], 4000, "each once");
    for seq in [3, 4] {
        assert_eq!(room.expect_frame("bid").await["seq"], seq, "each once");
    }
    nodes.wait_for_peers().await;
    let health = nodes[1].admin().get("/admin/health").await;
    assert_eq!(health.body["status"], "pass", "{}", health.text);
}
