//! The server: its addresses, its workers with their part of the house, and how their connections are set up.

use std::{
    future::ready,
    io,
    net::{SocketAddr, TcpListener},
    os::fd::AsFd,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use actix::prelude::*;
use actix_http::{HttpService, KeepAlive, error::DispatchError};
use actix_service::{IntoServiceFactory, Service, ServiceFactoryExt, apply_fn_factory, map_config};
use actix_web::{
    App,
    dev::{AppConfig, Server, ServiceFactory, fn_factory, fn_service},
    http::header,
    middleware::{DefaultHeaders, NormalizePath, from_fn},
    rt::net::TcpStream,
    web,
};

use super::{Settings, open_files};
use crate::{
    actors::{AlarmHub, Rooms, ShardStats, attach_worker},
    http::{
        self, Connection, ConnectionLimit, LocalShard, OpenSockets, Services, cors, in_turn, part, refused_as_problem,
        take_over,
    },
};

/// How long requests may still take when the node ends and the sockets are closed, in seconds.
const CLOSE_S: u64 = 1;
/// How long a client may take to end a connection that the server has ended.
const DISCONNECT: Duration = Duration::from_secs(1);
/// Connections that may wait to be accepted: everybody comes back at once after a restart.
const BACKLOG: i32 = 2048;
/// What the kernel may hold for one client that doesn't read: the default would be megabytes.
const SEND_BUFFER: usize = 64 * 1024;
/// What waits for one connection between a body and the kernel.
const WRITE_BUFFER: usize = 16 * 1024;

/// Takes the addresses; of a name with several, those that can be had.
pub(super) fn bind(addresses: &[SocketAddr]) -> io::Result<Vec<TcpListener>> {
    let take = |address: &SocketAddr| {
        let socket = socket2::Socket::new(socket2::Domain::for_address(*address), socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&(*address).into())?;
        socket.listen(BACKLOG)?;
        Ok(TcpListener::from(socket))
    };
    let (taken, refused): (Vec<_>, Vec<_>) = addresses.iter().map(take).partition(Result::is_ok);
    match refused.into_iter().next() {
        Some(Err(error)) if taken.is_empty() => Err(error),
        _ => Ok(taken.into_iter().flatten().collect()),
    }
}

/// What the workers share.
#[derive(Clone)]
pub(super) struct WorkerContext {
    pub services: web::Data<Services>,
    pub hub: Addr<AlarmHub>,
    pub rooms: Addr<Rooms>,
    pub stats: Arc<ShardStats>,
    pub sockets: OpenSockets,
}

/// Begins to serve, with workers of their own for each address.
pub(super) fn serve(
    settings: &Settings,
    listeners: Vec<TcpListener>,
    house: &WorkerContext,
) -> io::Result<(Server, Vec<SocketAddr>)> {
    let shards = Arc::new(AtomicUsize::new(0));
    let slow_after_s = u32::try_from(settings.session.timeout_s).unwrap_or(u32::MAX);
    let dead_after = Duration::from_secs(settings.session.timeout_s);
    let keep_alive = Duration::from_secs(settings.server.keep_alive_s);
    let mut server = Server::build().workers(settings.workers()).disable_signals().shutdown_timeout(CLOSE_S);
    let ending = server.graceful_shutdown_signal();
    let limit = ConnectionLimit::new(open_files::for_clients(settings));
    let mut addresses = Vec::new();
    for listener in listeners {
        let address = listener.local_addr()?;
        addresses.push(address);
        let (house, shards, ending, limit) = (house.clone(), Arc::clone(&shards), ending.clone(), limit.clone());
        server = server.listen(address.to_string(), listener, move || {
            let WorkerContext { services, hub, rooms, stats, sockets } = house.clone();
            // Each worker has its own shard of the hub, on its own thread.
            let index = shards.fetch_add(1, Ordering::Relaxed);
            let shard = web::Data::new(LocalShard(attach_worker(index, slow_after_s, &hub, &rooms, stats)));
            let app = move || {
                let app = App::new()
                    .app_data(services.clone())
                    .app_data(shard.clone())
                    .wrap(cors(services.clone()))
                    .wrap(from_fn(refused_as_problem))
                    .wrap(NormalizePath::trim())
                    .wrap(DefaultHeaders::new().add((header::X_CONTENT_TYPE_OPTIONS, "nosniff")))
                    .wrap(from_fn(in_turn))
                    .configure(http::routes);
                map_config(app.into_factory(), |()| AppConfig::default())
            };
            let (for_sockets, upgraded) = (app.clone(), sockets.clone());
            let upgrades = fn_factory(move || {
                let (app, sockets) = (for_sockets().new_service(()), upgraded.clone());
                async move {
                    let app = Rc::new(app.await?);
                    Ok::<_, ()>(fn_service(move |upgrade| take_over(Rc::clone(&app), upgrade, sockets.clone())))
                }
            });
            let (ending, limit) = (ending.clone(), limit.clone());
            let connections = fn_service(move |tcp: TcpStream| {
                set_up_socket(&tcp, dead_after);
                let peer = tcp.peer_addr().ok();
                // Ended at once: whoever asks can go elsewhere, and does not wait for somebody to leave.
                let place = limit.enter().ok_or_else(|| DispatchError::Io(io::Error::other("no file is left for it")));
                ready(place.map(|place| (Connection::http(tcp, place, keep_alive, (sockets.clone(), part)), peer)))
            });
            let http = HttpService::build()
                // The connection itself sees to it that it ends.
                .keep_alive(KeepAlive::Os)
                .client_request_timeout(Duration::ZERO)
                // So that connections that wait for their next request end with the node.
                .graceful_shutdown_signal(move || {
                    let ending = ending.clone();
                    async move { ending.notified().await }
                })
                .client_disconnect_timeout(DISCONNECT)
                .h1_write_buffer_size(WRITE_BUFFER)
                .local_addr(address)
                .on_connect_ext(Connection::hand_to_requests)
                .upgrade(upgrades)
                .h1(app());
            apply_fn_factory(connections.and_then(http), said_of_client)
        })?;
    }
    Ok((server.run(), addresses))
}

/// What ends a connection is the client's doing, and said with its address.
fn said_of_client<S>(tcp: TcpStream, connection: &S) -> impl Future<Output = Result<(), DispatchError>> + use<S>
where
    S: Service<TcpStream, Response = (), Error = DispatchError>,
{
    let peer = tcp.peer_addr();
    let done = connection.call(tcp);
    async move {
        let done = done.await;
        if let (Err(error), Ok(peer)) = (&done, peer) {
            log::debug!("the connection of {peer} has ended: {error}");
        }
        done
    }
}

/// A close frame can't pass a full window, and nothing else times a write out: the kernel ends a socket whose peer
/// takes nothing for so long. Failing to set this up costs a slow end of dead sockets, not the connection.
fn set_up_socket(tcp: &TcpStream, dead_after: Duration) {
    let descriptor = tcp.as_fd();
    let socket = socket2::SockRef::from(&descriptor);
    let done = socket
        .set_tcp_user_timeout(Some(dead_after))
        .and_then(|()| socket.set_send_buffer_size(SEND_BUFFER))
        .and_then(|()| socket.set_tcp_nodelay(true));
    if let Err(error) = done {
        log::debug!("a socket could not be set up: {error}");
    }
}
