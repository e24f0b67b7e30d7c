//! Sends messages to an actor whose full mailbox refuses them.

use actix::{
    dev::{SendError, ToEnvelope},
    prelude::*,
};

use super::mailbox_overflow::OverflowFlag;

/// Sends a message or, if the mailbox is full, records the ids that it concerns. False in the latter case.
pub(crate) fn send_or_note<A, M, T, I>(
    actor: &Addr<A>,
    message: M,
    overflow: &OverflowFlag<T>,
    ids: impl FnOnce(M) -> I,
) -> bool
where
    A: Actor + Handler<M>,
    A::Context: ToEnvelope<A, M>,
    M: Message<Result = ()> + Default + Send + 'static,
    T: Eq + std::hash::Hash,
    I: IntoIterator<Item = T>,
{
    let Err(SendError::Full(refused) | SendError::Closed(refused)) = actor.try_send(message) else { return true };
    overflow.note(ids(refused), || actor.do_send(M::default()));
    false
}
