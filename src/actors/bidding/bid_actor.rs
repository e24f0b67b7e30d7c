//! The `BidActor`: serialises the bids of one goods item in front of the ledger. What it decides is in `bid_queue`.
//!
//! The ledger's thread answers the callers itself, right after the commit, and notifies the actor. So a panic here
//! loses no answer that is on disk. Bids that the actor had not yet submitted are answered "not stored".

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use actix::prelude::*;
use tokio::sync::oneshot;

use super::{
    bid_queue::{BidQueue, Next, Offered},
    committed_goods::CommittedState,
};
use crate::{
    domain::GoodsId,
    store::{
        Ledger, WriteError,
        writes::{BidVerdict, EndAuction, Ended, KeyedBid, PlaceBids},
    },
};

/// Messages in the mailbox of the router or of one actor. When it is full, a bid is answered "not stored".
pub(crate) const MAILBOX_LIMIT: usize = 4096;
/// An actor without bids for this long is stopped.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// After this the ledger drops a waiting end unwritten, and the clock retries it.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// The answer to one bid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BidAnswer {
    /// The bid is judged. If it is accepted, it is on disk.
    Verdict(BidVerdict),
    /// The bid is not judged, or the outcome of its commit is unknown.
    Failed(WriteError),
}

/// Answers one bid exactly once. A reply that is dropped unanswered sends "not stored": that is true, because a bid
/// leaves the actors only for the ledger, and the ledger answers every bid it receives.
#[derive(Debug)]
pub struct BidReply(Option<oneshot::Sender<BidAnswer>>);

impl BidReply {
    /// Creates a reply and the receiver of its answer.
    pub fn new() -> (Self, oneshot::Receiver<BidAnswer>) {
        let (sender, receiver) = oneshot::channel();
        (Self(Some(sender)), receiver)
    }

    /// Sends the answer. It is lost if the caller has gone away.
    pub fn answer(mut self, answer: BidAnswer) {
        if let Some(sender) = self.0.take() {
            let _ = sender.send(answer);
        }
    }
}

impl Drop for BidReply {
    fn drop(&mut self) {
        if let Some(sender) = self.0.take() {
            let _ = sender.send(BidAnswer::Failed(WriteError::NotStored));
        }
    }
}

/// Reports the outcome of an auction's end exactly once. Dropped unanswered, it reports "not stored" like [`BidReply`].
pub struct EndReply(Option<EndCallback>);

type EndCallback = Box<dyn FnOnce(Result<Ended, WriteError>) + Send>;

impl EndReply {
    /// Creates a reply that passes the outcome to `callback`.
    pub fn new(callback: impl FnOnce(Result<Ended, WriteError>) + Send + 'static) -> Self {
        Self(Some(Box::new(callback)))
    }

    /// Reports the outcome.
    pub fn answer(mut self, result: Result<Ended, WriteError>) {
        if let Some(callback) = self.0.take() {
            callback(result);
        }
    }
}

impl Drop for EndReply {
    fn drop(&mut self) {
        if let Some(callback) = self.0.take() {
            callback(Err(WriteError::NotStored));
        }
    }
}

/// The caller of a queued bid: how long they wait, and how they are answered.
struct Caller {
    deadline: Instant,
    reply: BidReply,
}

/// An idle actor asks the router to stop it.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Retire {
    pub goods: GoodsId,
    pub generation: u64,
    /// Messages from the router that the actor had handled when it asked. The router compares it with what it has sent.
    pub handled: u64,
}

/// One for each goods item with bids. The router creates, replaces and stops it.
pub(crate) struct BidActor {
    goods: GoodsId,
    queue: BidQueue<Caller, EndReply>,
    committed: Arc<CommittedState>,
    ledger: Ledger,
    router: Recipient<Retire>,
    /// Distinguishes this actor from its predecessors and successors for the same goods.
    generation: u64,
    used_at: Instant,
    /// Whether a bid has come. An actor that only ended an auction is stopped right after.
    has_had_bids: bool,
    /// Messages from the router handled so far.
    handled: u64,
}

impl BidActor {
    /// Starts an actor. The mailbox gets its capacity here and not in `started`, because a burst can come before the
    /// actor runs for the first time.
    pub(crate) fn open(
        goods: GoodsId,
        generation: u64,
        ledger: Ledger,
        committed: Arc<CommittedState>,
        router: Recipient<Retire>,
    ) -> Addr<Self> {
        Self::create(|ctx| {
            ctx.set_mailbox_capacity(MAILBOX_LIMIT);
            Self::new(goods, generation, ledger, committed, router)
        })
    }

    fn new(
        goods: GoodsId,
        generation: u64,
        ledger: Ledger,
        committed: Arc<CommittedState>,
        router: Recipient<Retire>,
    ) -> Self {
        Self {
            goods,
            queue: BidQueue::new(Arc::clone(&committed)),
            committed,
            ledger,
            router,
            generation,
            used_at: Instant::now(),
            has_had_bids: false,
            handled: 0,
        }
    }

    /// Submits the next batch or the end to the ledger, unless one is in flight.
    fn submit_next(&mut self, ctx: &mut Context<Self>) {
        let (me, committed) = (ctx.address(), Arc::clone(&self.committed));
        let refuse = |refusal, caller: Caller| caller.reply.answer(BidAnswer::Verdict(BidVerdict::Refused(refusal)));
        match self.queue.next(refuse) {
            Some(Next::Bids(bids)) => {
                let deadline = bids.iter().map(|(_, caller)| caller.deadline).min().unwrap_or_else(Instant::now);
                let (bids, replies): (Vec<KeyedBid>, Vec<BidReply>) =
                    bids.into_iter().map(|(bid, caller)| (bid, caller.reply)).unzip();
                self.ledger.submit(PlaceBids { goods: self.goods, bids }, deadline, move |result| match result {
                    Ok(placed) => {
                        // Before the answers, so that nobody is refused at a price older than the one they know.
                        if let Some(goods) = &placed.goods {
                            committed.update(goods);
                        }
                        me.do_send(BatchDone { unknown_goods: placed.goods.is_none() });
                        for (reply, verdict) in replies.into_iter().zip(placed.verdicts) {
                            reply.answer(BidAnswer::Verdict(verdict));
                        }
                    }
                    Err(error) => {
                        me.do_send(BatchDone { unknown_goods: false });
                        for reply in replies {
                            reply.answer(BidAnswer::Failed(error));
                        }
                    }
                });
            }
            Some(Next::End(reply)) => {
                let deadline = Instant::now() + END_TIMEOUT;
                self.ledger.submit(EndAuction(self.goods), deadline, move |result| {
                    if let Ok(Ended::Yes(goods) | Ended::NotYet(goods)) = &result {
                        committed.update(goods);
                    }
                    me.do_send(BatchDone { unknown_goods: matches!(result, Ok(Ended::UnknownGoods)) });
                    reply.answer(result);
                });
            }
            None => {}
        }
    }

    fn ask_to_retire(&self) {
        self.router.do_send(Retire { goods: self.goods, generation: self.generation, handled: self.handled });
    }
}

impl Actor for BidActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(IDLE_TIMEOUT / 5, |actor, _| {
            if actor.queue.is_idle() && actor.used_at.elapsed() >= IDLE_TIMEOUT {
                actor.ask_to_retire();
            }
        });
    }
}

/// Queues a bid on this goods item.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct QueueBid {
    pub bid: KeyedBid,
    pub deadline: Instant,
    pub reply: BidReply,
}

impl Handler<QueueBid> for BidActor {
    type Result = ();

    fn handle(&mut self, QueueBid { bid, deadline, reply }: QueueBid, ctx: &mut Self::Context) {
        self.used_at = Instant::now();
        self.has_had_bids = true;
        self.handled += 1;
        match self.queue.offer(bid, Caller { deadline, reply }) {
            Offered::Waits => self.submit_next(ctx),
            Offered::Refused(refusal, caller) => {
                caller.reply.answer(BidAnswer::Verdict(BidVerdict::Refused(refusal)));
            }
            Offered::Full(caller) => caller.reply.answer(BidAnswer::Failed(WriteError::NotStored)),
        }
    }
}

/// Queues the end of the auction behind every waiting bid.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct QueueEnd(pub EndReply);

impl Handler<QueueEnd> for BidActor {
    type Result = ();

    fn handle(&mut self, QueueEnd(reply): QueueEnd, ctx: &mut Self::Context) {
        self.used_at = Instant::now();
        self.handled += 1;
        self.queue.offer_end(reply);
        self.submit_next(ctx);
    }
}

/// The batch or end in flight is committed or has failed.
#[derive(Message)]
#[rtype(result = "()")]
struct BatchDone {
    /// The goods do not exist.
    unknown_goods: bool,
}

impl Handler<BatchDone> for BidActor {
    type Result = ();

    fn handle(&mut self, BatchDone { unknown_goods }: BatchDone, ctx: &mut Self::Context) {
        self.queue.done();
        self.submit_next(ctx);
        if self.queue.is_idle() && (unknown_goods || !self.has_had_bids) {
            // Anybody can bid on goods that don't exist, and most ends need no queue: such actors must not stay.
            self.ask_to_retire();
        }
    }
}

/// The goods are deleted: the actor forgets their state, so that the ledger refuses further bids.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Forget;

impl Handler<Forget> for BidActor {
    type Result = ();

    fn handle(&mut self, _: Forget, _: &mut Self::Context) {
        self.committed.forget();
    }
}

/// Stops the actor. The router has removed it, and has sent it nothing since it was idle.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Stop;

impl Handler<Stop> for BidActor {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

#[cfg(test)]
pub(crate) mod test_support {
    use super::*;

    /// Makes the actor panic like a bug would.
    #[derive(Message)]
    #[rtype(result = "()")]
    pub(crate) struct Panic;

    impl Handler<Panic> for BidActor {
        type Result = ();

        fn handle(&mut self, _: Panic, _: &mut Self::Context) {
            panic!("on purpose");
        }
    }
}
