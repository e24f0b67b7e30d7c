//! What holds of a user on all nodes together: how many sockets he may have, and that he is refused everywhere once he is
//! refused.

use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};
use serde_json::json;

use crate::{
    clock::SELLER,
    events::Stream,
    support::{
        Client, Fleet, Nodes, Socket, TestNode, claims, eventually, eventually_within, several_nodes_can_be, signed,
    },
};

/// The usual `session.max_per_user`.
const MOST: usize = 16;
/// One more socket of this user, which has heard its greeting.
pub async fn one_more(client: &Client) -> Socket {
    let mut socket = client.socket_since(0).await;
    socket.hear("hello").await;
    socket
}

/// As many as he may have, at these nodes in turn.
async fn all_seats(clients: &[Client]) -> Vec<Socket> {
    let mut open = Vec::new();
    for at in 0..MOST {
        open.push(one_more(&clients[at % clients.len()]).await);
    }
    open
}

/// Whether the socket is still open; otherwise it has been told that the user has too many.
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

/// Waits until the socket has been told that the user has too many: its node may be another one than that of the newest.
async fn is_evicted(socket: &mut Socket) {
    assert_eq!(socket.closed().await.code, Some(4409));
}

/// How many sockets there are on all nodes.
async fn sessions(nodes: &Nodes) -> i64 {
    let admins: Vec<Client> = nodes.iter().map(TestNode::admin).collect();
    crate::support::session_figures(&admins).await["sessions"].as_i64().unwrap()
}

#[actix_web::test]
async fn a_user_has_so_many_sockets_on_all_nodes_together_and_the_oldest_goes() {
    if !several_nodes_can_be() {
        return;
    }
    let nodes = Nodes::start(2).await;
    let goods = nodes[0].live_goods(SELLER).await;
    let clients = nodes.users(2);
    let mut open = all_seats(&clients).await;
    for client in &clients {
        // A stream gives way.
        assert_eq!(client.get("/alarms/stream").await.status, 204);
    }
    all_are_open(&mut open).await;
    // The first one was opened at the first node, the second one at the second.
    let mut next = one_more(&clients[1]).await;
    is_evicted(&mut open.remove(0)).await;
    let mut room = clients[0].room(goods).await;
    room.hear("enter").await;
    // A room's socket is one too.
    is_evicted(&mut open.remove(0)).await;
    // Nobody else's.
    one_more(&nodes[1].user(3)).await;
    all_are_open(&mut open).await;
    assert!(is_open(&mut next).await);
    drop((open, next, room));
    eventually("all seats are free", || async { (sessions(&nodes).await == 0).then_some(()) }).await;
    // All at once at both nodes: so many stay.
    let uncounted = async || nodes.bus_figures("uncounted").await.iter().sum::<u64>() as usize;
    let before = uncounted().await;
    let mut came = join_all((0..MOST * 2).map(|at| clients[at % 2].socket_since(0))).await;
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
    // Whoever can't be counted in time is let in: on a machine with so much else to do, that happens.
    let may = MOST + uncounted().await - before;
    eventually("so many are left", || async { (sessions(&nodes).await <= may as i64).then_some(()) }).await;
    assert!(stayed >= MOST, "only {stayed}");
}

#[actix_web::test]
async fn who_comes_back_from_a_node_that_is_killed_or_ends_is_let_in_at_once() {
    if !several_nodes_can_be() {
        return;
    }
    let fleet = Fleet::start(2, &[]).await;
    let client = |at: usize| fleet.user(at, 2).unwrap();
    let open = all_seats(&[client(1)]).await;
    fleet.kill(1);
    let mut again = all_seats(&[client(0)]).await;
    all_are_open(&mut again).await;
    drop(open);
    fleet.start_at(1).await;
    fleet.end(0).await;
    let mut again = all_seats(&[client(1)]).await;
    all_are_open(&mut again).await;
}

#[actix_web::test]
async fn sockets_are_counted_again_after_redis_was_lost() {
    if !several_nodes_can_be() {
        return;
    }
    let mut nodes = Nodes::start(2).await;
    let clients = nodes.users(2);
    let mut open = all_seats(&clients).await;
    nodes.redis.kill();
    nodes.say_of_their_bus("warn").await;
    // Each node counts its own as long as it is alone.
    let before = nodes.bus_figures("uncounted").await[0];
    open.push(one_more(&clients[0]).await);
    assert_eq!(nodes.bus_figures("uncounted").await[0], before + 1);
    all_are_open(&mut open).await;
    nodes.redis.start_again();
    nodes.say_of_their_bus("pass").await;
    nodes.know_each_other().await;
    // With the next one, those go that are too many, as soon as all are counted again.
    let mut newer = Vec::new();
    for client in &clients {
        let newest = eventually("he has so many again", || async {
            let newest = one_more(client).await;
            (sessions(&nodes).await <= MOST as i64).then_some(newest)
        });
        newer.push(newest.await);
    }
    // The oldest ones.
    for socket in &mut open[..2] {
        is_evicted(socket).await;
    }
    all_are_open(&mut newer).await;
}

/// A user who is refused at one node: what that closes at all of them, and what is refused from then on.
async fn is_out_everywhere(nodes: &Nodes, user: i64, within: Duration, sockets: &mut [Socket]) {
    let begun = Instant::now();
    for client in nodes.users(user) {
        eventually_within(within, "he is refused", || async {
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
async fn a_user_who_is_refused_at_one_node_is_out_at_all() {
    if !several_nodes_can_be() {
        return;
    }
    let nodes = Nodes::start(3).await;
    let goods = nodes[0].live_goods(SELLER).await;
    let mut sockets = Vec::new();
    for client in nodes.users(7) {
        let mut alarms = client.socket_since(0).await;
        alarms.hear("hello").await;
        sockets.extend([alarms, client.room(goods).await]);
    }
    let mut stream = Stream::open(&nodes[2], nodes[2].user(7).token(), "/alarms/stream?since=0", "");
    stream.data();
    let mut bystander = nodes[1].user(8).socket_since(0).await;
    bystander.hear("hello").await;
    set_active(&nodes[1], 7, false).await;
    is_out_everywhere(&nodes, 7, Duration::from_secs(2), &mut sockets).await;
    assert!(stream.is_closed_with("4401"));
    set_active(&nodes[2], 7, true).await;
    for client in nodes.users(7) {
        eventually("he is back", || async { (client.get("/alarms/unread").await.status == 200).then_some(()) }).await;
        one_more(&client).await;
    }
    bystander.send_json(&json!({"type": "ping"})).await;
    bystander.hear("pong").await;
}

#[actix_web::test]
async fn a_user_who_is_refused_while_redis_is_away_is_out_at_all_nodes_within_seconds() {
    if !several_nodes_can_be() {
        return;
    }
    for is_silent in [false, true] {
        let mut nodes = Nodes::start(2).await;
        let goods = nodes[0].live_goods(SELLER).await;
        let mut sockets = Vec::new();
        for client in nodes.users(7) {
            let mut alarms = client.socket_since(0).await;
            alarms.hear("hello").await;
            sockets.extend([alarms, client.room(goods).await]);
        }
        if is_silent {
            nodes.redis.stop_answering();
        } else {
            nodes.redis.kill();
        }
        let begun = Instant::now();
        set_active(&nodes[1], 7, false).await;
        is_out_everywhere(&nodes, 7, Duration::from_secs(9), &mut sockets).await;
        eprintln!("silent: {is_silent}; he was out after {:?}", begun.elapsed());
        if is_silent {
            nodes.redis.go_on();
        }
    }
}

/// His other node stores his new name at the same moment: whichever comes first, he is refused at all nodes.
#[actix_web::test]
async fn a_user_who_is_refused_while_other_nodes_change_him_is_refused_at_all() {
    const USERS: i64 = 60;
    if !several_nodes_can_be() {
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

/// What the bus tells late is older than what the node itself has stored since.
#[actix_web::test]
async fn what_is_told_late_of_a_user_undoes_nothing_that_came_after_it() {
    if !several_nodes_can_be() {
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
    nodes.redis.stop_answering();
    // Stored at the first node, and on its way to the second, …
    assert_eq!(named(0, "after", now.secs() - 50).get("/alarms/unread").await.status, 200);
    // … which stores that he is refused before it hears of it.
    set_active(&nodes[1], 7, false).await;
    assert_eq!(old[1].get("/alarms/unread").await.status, 401);
    nodes.redis.go_on();
    eventually("it is heard", || async { (old[0].get("/alarms/unread").await.status == 401).then_some(()) }).await;
    // Behind everything that was on its way.
    let goods = nodes[0].live_goods(SELLER).await;
    let mut room = nodes[1].visitor().room(goods).await;
    let _comes = nodes[0].user(8).room(goods).await;
    room.hear("enter").await;
    assert_eq!(old[1].get("/alarms/unread").await.status, 401, "he stays refused");
}

#[actix_web::test]
async fn two_services_on_one_redis_do_not_hear_each_other() {
    if !several_nodes_can_be() {
        return;
    }
    let nodes = Nodes::start(2).await;
    let url = nodes.redis.url();
    let other = TestNode::with(|settings| settings.bus.url = Some(url));
    eventually("its bus", || async {
        (crate::support::bus_of(&other.admin()).await["status"] == "pass").then_some(())
    })
    .await;
    // The same numbers of goods and users there.
    let (goods, same) = (nodes[0].live_goods(SELLER).await, other.live_goods(SELLER).await);
    assert_eq!(goods, same);
    let mut alarms = other.user(2).socket_since(0).await;
    alarms.hear("hello").await;
    let mut room = other.visitor().room(goods).await;
    let _present = nodes[0].user(5).room(goods).await;
    let mut seats = all_seats(&nodes.users(2)).await;
    for (user, price) in [(2, 1000), (3, 2000)] {
        assert_eq!(nodes[1].user(user).bid(goods, price).await.status, 201);
    }
    for (user, price) in [(2, 1500), (3, 2500)] {
        assert_eq!(other.user(user).bid(goods, price).await.status, 201);
    }
    assert_eq!(alarms.expect("outbid").await["high_price"], 2500, "the first that is heard there");
    assert_eq!(room.hear("bid").await["high_price"], 1500, "and nobody's coming before it");
    one_more(&other.user(2)).await;
    for seat in &mut seats {
        seat.expect("outbid").await;
    }
    // The seats are counted apart.
    all_are_open(&mut seats).await;
    assert_eq!(crate::support::bus_of(&other.admin()).await["others"], 0);
    assert_eq!(nodes.bus_figures("others").await, [1, 1]);
    drop(seats);
}

/// Whatever somebody else says on the channels, and whatever is said there twice.
#[actix_web::test]
async fn garbage_on_the_channels_harms_nobody_and_is_counted() {
    if !several_nodes_can_be() {
        return;
    }
    let nodes = Nodes::start(2).await;
    let goods = nodes[0].live_goods(SELLER).await;
    let mut alarms = nodes[1].user(2).socket_since(0).await;
    alarms.hear("hello").await;
    let mut room = nodes[1].visitor().room(goods).await;
    let client = redis::Client::open(nodes.redis.url()).unwrap();
    let mut conn = client.get_connection().unwrap();
    let channels: Vec<String> = redis::cmd("PUBSUB").arg("CHANNELS").arg("handsup:*").query(&mut conn).unwrap();
    assert!(channels.len() >= 3, "{channels:?}");
    // What is said on them is heard here too.
    let mut ear = client.get_connection().unwrap();
    ear.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut ear = ear.as_pubsub();
    ear.psubscribe("handsup:*").unwrap();
    for (user, price) in [(2, 1000), (3, 2000)] {
        assert_eq!(nodes[0].user(user).bid(goods, price).await.status, 201);
    }
    let mut said: Vec<(String, Vec<u8>)> = Vec::new();
    // Two bids and an alarm.
    while said.len() < 3 {
        let message = ear.get_message().expect("what the nodes say");
        let channel = message.get_channel_name().to_owned();
        if !channel.ends_with("nodes") {
            said.push((channel, message.get_payload_bytes().to_vec()));
        }
    }
    assert_eq!(alarms.expect("outbid").await["high_price"], 2000);
    for seq in [1, 2] {
        assert_eq!(room.hear("bid").await["seq"], seq);
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
        // Again, and again.
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
    assert_eq!(alarms.expect("outbid").await["high_price"], 4000, "each once");
    for seq in [3, 4] {
        assert_eq!(room.hear("bid").await["seq"], seq, "each once");
    }
    nodes.know_each_other().await;
    let health = nodes[1].admin().get("/admin/health").await;
    assert_eq!(health.body["status"], "pass", "{}", health.text);
}
