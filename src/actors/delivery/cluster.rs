//! The hub's link to the other nodes: subscribes to the users who are connected here, counts sockets over all nodes,
//! and sends other nodes what concerns a user's sessions there.

use actix::prelude::*;

use super::registry::{RegisteredSession, Registry};
use crate::{
    bus::{Bus, BusEvent, BusMessage, Channel, ConnectionId, IfFull, SocketClaim, UserSocket},
    domain::UserId,
};

/// The hub's part that exists only in a cluster.
pub(crate) struct HubCluster(pub Bus);

impl HubCluster {
    /// A session has been registered. When the future resolves, this node receives, or knows that it lost, what other
    /// nodes commit for the user. It gives the answer of the count of their sockets.
    pub(crate) fn join(
        &self,
        user: UserId,
        session: &RegisteredSession,
        limit: (usize, IfFull),
    ) -> impl Future<Output = SocketClaim> + use<> {
        let subscribed = session.receives_alarms.then(|| self.0.subscribe(Channel::User(user)));
        let claimed = self.0.claim_socket(user, (session.location.connection, session.at), limit);
        async move {
            let subscribed = async {
                if let Some(subscribed) = subscribed {
                    subscribed.await;
                }
            };
            futures_util::join!(subscribed, claimed).1
        }
    }

    /// A session has been unregistered. The future, if any, stops counting its socket. A socket that is not counted yet
    /// is released after its claim: a release must not overtake it.
    pub(crate) fn leave(&self, user: UserId, session: &RegisteredSession) -> Option<impl Future<Output = ()> + use<>> {
        if session.receives_alarms {
            self.0.unsubscribe(Channel::User(user));
        }
        session.is_counted.then(|| self.0.release_socket(user, session.location.connection))
    }

    /// Tells the nodes of evicted sockets to close them. Returns those of this node.
    pub(crate) fn evict(&self, user: UserId, evicted: &[UserSocket]) -> Vec<ConnectionId> {
        let (here, elsewhere): (Vec<_>, Vec<_>) = evicted.iter().partition(|socket| socket.node == self.0.node_id());
        for UserSocket { node, connection } in elsewhere {
            self.0.broadcast(BusMessage::EvictSocket { node, user, connection });
        }
        here.into_iter().map(|socket| socket.connection).collect()
    }

    /// Counts the sockets of these users again.
    pub(crate) fn recount(&self, registry: &Registry, users: &[UserId]) -> impl Future<Output = ()> + use<> {
        let sessions = users.iter().flat_map(|user| registry.sessions(*user).map(move |session| (*user, session)));
        let reclaimed =
            sessions.map(|(user, session)| self.0.reclaim_socket(user, session.location.connection, session.at));
        let reclaimed = futures_util::future::join_all(reclaimed);
        async move {
            reclaimed.await;
        }
    }
}

/// An event of the bus for the hub or the rooms, whichever it concerns.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct FromBus(pub BusEvent);
