//! The HTTP server: binds its addresses, builds its workers, each with its own shard, and sets up their connections.

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

use actix_http::{HttpService, KeepAlive, error::DispatchError};
use actix_service::{IntoServiceFactory, Service, ServiceFactoryExt, apply_fn_factory, map_config};
use actix_web::{
    App,
    dev::{AppConfig, Server, ServiceFactory, fn_factory, fn_service},
    middleware::{NormalizePath, from_fn},
    rt::net::TcpStream,
    web,
};

use super::Settings;
use crate::{
    actors::attach_worker,
    http::{
        self, Admission, HttpConnection, LocalShard, OpenConnections, Services, cors, log_request, refusal_as_problem,
        security_headers, take_over, track_responses,
    },
};

/// How long requests may still take when the node stops, in seconds. The sockets are closed by then.
const SHUTDOWN_TIMEOUT_S: u64 = 1;
/// How long a client may take to close a connection that the server has closed.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Connections that may wait to be accepted. After a restart all clients reconnect at once.
const ACCEPT_QUEUE_LIMIT: i32 = 2048;
/// What the kernel buffers for a client that does not read. Its default grows to megabytes.
const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// What actix-http buffers of a response for one connection.
const WRITE_BUFFER_BYTES: usize = 16 * 1024;

/// Binds the addresses. A name may have several, of which one that can be bound is enough.
pub(super) fn bind(addresses: &[SocketAddr]) -> io::Result<Vec<TcpListener>> {
    let bind_one = |address: &SocketAddr| {
        let socket = socket2::Socket::new(socket2::Domain::for_address(*address), socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&(*address).into())?;
        socket.listen(ACCEPT_QUEUE_LIMIT)?;
        Ok(TcpListener::from(socket))
    };
    let (bound, failed): (Vec<_>, Vec<_>) = addresses.iter().map(bind_one).partition(Result::is_ok);
    match failed.into_iter().next() {
        Some(Err(error)) if bound.is_empty() => Err(error),
        _ => Ok(bound.into_iter().flatten().collect()),
    }
}

/// Starts the server, with its own set of workers for each address. Returns the addresses with their actual ports.
pub(super) fn serve(
    settings: &Settings,
    listeners: Vec<TcpListener>,
    services: &web::Data<Services>,
    connections: &OpenConnections,
) -> io::Result<(Server, Vec<SocketAddr>)> {
    let shards = Arc::new(AtomicUsize::new(0));
    let slow_after_s = u32::try_from(settings.session.timeout_s).unwrap_or(u32::MAX);
    let dead_after = Duration::from_secs(settings.session.timeout_s);
    let keep_alive = Duration::from_secs(settings.server.keep_alive_s);
    let mut server = Server::build().workers(settings.workers()).disable_signals().shutdown_timeout(SHUTDOWN_TIMEOUT_S);
    let ending = server.graceful_shutdown_signal();
    let mut addresses = Vec::new();
    for listener in listeners {
        let address = listener.local_addr()?;
        addresses.push(address);
        let (services, connections, shards) = (services.clone(), connections.clone(), Arc::clone(&shards));
        let ending = ending.clone();
        server = server.listen(address.to_string(), listener, move || {
            let (services, connections) = (services.clone(), connections.clone());
            // Each worker has its own shard of the hub, on its own thread.
            let index = shards.fetch_add(1, Ordering::Relaxed);
            let shard = web::Data::new(LocalShard(attach_worker(
                index,
                slow_after_s,
                &services.hub,
                &services.rooms,
                Arc::clone(&services.sessions),
            )));
            let app = move || {
                let app = App::new()
                    .app_data(services.clone())
                    .app_data(shard.clone())
                    .wrap(cors(services.clone()))
                    .wrap(from_fn(refusal_as_problem))
                    .wrap(NormalizePath::trim())
                    .wrap(security_headers())
                    .wrap(from_fn(track_responses))
                    .wrap(from_fn(log_request))
                    .configure(http::routes);
                map_config(app.into_factory(), |()| AppConfig::default())
            };
            let for_sockets = app.clone();
            let upgrades = fn_factory(move || {
                let app = for_sockets().new_service(());
                async move {
                    let app = Rc::new(app.await?);
                    Ok::<_, ()>(fn_service(move |upgrade| take_over(Rc::clone(&app), upgrade)))
                }
            });
            let ending = ending.clone();
            let accept = fn_service(move |tcp| ready(accept(tcp, &connections, dead_after, keep_alive)));
            let http = HttpService::build()
                // `HttpConnection` has these two timeouts itself.
                .keep_alive(KeepAlive::Os)
                .client_request_timeout(Duration::ZERO)
                // Closes connections that wait for their next request when the node stops.
                .graceful_shutdown_signal(move || {
                    let ending = ending.clone();
                    async move { ending.notified().await }
                })
                .client_disconnect_timeout(DISCONNECT_TIMEOUT)
                .h1_write_buffer_size(WRITE_BUFFER_BYTES)
                .local_addr(address)
                .on_connect_ext(HttpConnection::add_request_data)
                .upgrade(upgrades)
                .h1(app());
            apply_fn_factory(accept.and_then(http), log_connection_end)
        })?;
    }
    Ok((server.run(), addresses))
}

/// Prepares an accepted connection for HTTP. Beyond the limit of open connections it is closed at once: the client need
/// not wait and can try another node. Beyond the limit of its address it gets 503.
fn accept(
    tcp: TcpStream,
    connections: &OpenConnections,
    dead_after: Duration,
    keep_alive: Duration,
) -> Result<(HttpConnection, Option<SocketAddr>), DispatchError> {
    set_up_socket(&tcp, dead_after);
    let peer = tcp.peer_addr().ok();
    let refused = |why| Err(DispatchError::Io(io::Error::other(why)));
    match connections.admit(peer.map(|peer| peer.ip())) {
        Admission::Open(permit) => Ok((HttpConnection::new(tcp, permit, keep_alive), peer)),
        Admission::Refused(permit) => {
            HttpConnection::refuse(tcp, permit, keep_alive);
            refused("its address has too many connections")
        }
        Admission::Closed => refused("the node or its address has too many connections"),
    }
}

/// Runs the connection, and logs with its address what has ended it. That is the client's doing, so the level is debug.
fn log_connection_end<S>(tcp: TcpStream, connection: &S) -> impl Future<Output = Result<(), DispatchError>> + use<S>
where
    S: Service<TcpStream, Response = (), Error = DispatchError>,
{
    let peer = tcp.peer_addr();
    let done = connection.call(tcp);
    async move {
        let done = done.await;
        if let (Err(error), Ok(peer)) = (&done, peer) {
            log::debug!(address:% = peer, error:%; "a connection has ended");
        }
        done
    }
}

/// Lets the kernel end a connection whose peer takes no data for `dead_after`: nothing else times out a write, and a
/// close frame can't get past a full window. If an option can't be set, dead connections end later, and nothing else
/// changes.
fn set_up_socket(tcp: &TcpStream, dead_after: Duration) {
    let descriptor = tcp.as_fd();
    let socket = socket2::SockRef::from(&descriptor);
    let done = socket
        .set_tcp_user_timeout(Some(dead_after))
        .and_then(|()| socket.set_send_buffer_size(SEND_BUFFER_BYTES))
        .and_then(|()| socket.set_tcp_nodelay(true));
    if let Err(error) = done {
        log::debug!(error:%; "socket options could not be set");
    }
}
