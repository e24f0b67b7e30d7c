//! The `BidActor`: serialises the bids of one goods item in front of the ledger. What it decides is in `bid_queue`.
//!
//! The ledger's thread answers the callers itself, right after the commit; the actor only learns the new state. So a
//! panic here costs nobody an answer that is on disk, and bids that had not been handed over are answered "not stored".

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

/// Messages that may wait; beyond, a bid is answered "not stored".
pub(crate) const MAILBOX: usize = 4096;
/// An actor without bids for so long is let go.
const IDLE: Duration = Duration::from_secs(300);
/// How long the ledger may take with an end before the clock is told to try again.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// What a bidder is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BidAnswer {
    /// Judged, and if accepted on disk.
    Verdict(BidVerdict),
    /// Not judged, or its commit's fate is unknown.
    Failed(WriteError),
}

/// Answers one bid exactly once: a reply that is dropped unanswered says "not stored", because a bid leaves the
/// actors only by being handed to the ledger, and the ledger answers everything it gets.
#[derive(Debug)]
pub struct BidReply(Option<oneshot::Sender<BidAnswer>>);

impl BidReply {
    /// A reply and where it will be heard.
    pub fn new() -> (Self, oneshot::Receiver<BidAnswer>) {
        let (tell, told) = oneshot::channel();
        (Self(Some(tell)), told)
    }

    /// Answers. A caller that has gone away hears nothing.
    pub fn answer(mut self, answer: BidAnswer) {
        if let Some(tell) = self.0.take() {
            let _ = tell.send(answer);
        }
    }
}

impl Drop for BidReply {
    fn drop(&mut self) {
        if let Some(tell) = self.0.take() {
            let _ = tell.send(BidAnswer::Failed(WriteError::NotStored));
        }
    }
}

/// Answers whoever waits for the end of an auction, exactly once, like [`BidReply`].
pub struct EndReply(Option<EndTold>);

type EndTold = Box<dyn FnOnce(Result<Ended, WriteError>) + Send>;

impl EndReply {
    /// A reply that calls `tell`.
    pub fn new(tell: impl FnOnce(Result<Ended, WriteError>) + Send + 'static) -> Self {
        Self(Some(Box::new(tell)))
    }

    /// Answers.
    pub fn answer(mut self, result: Result<Ended, WriteError>) {
        if let Some(tell) = self.0.take() {
            tell(result);
        }
    }
}

impl Drop for EndReply {
    fn drop(&mut self) {
        if let Some(tell) = self.0.take() {
            tell(Err(WriteError::NotStored));
        }
    }
}

struct Waiting {
    deadline: Instant,
    reply: BidReply,
}

/// An actor has nothing to do any more.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Retire {
    pub goods: GoodsId,
    pub generation: u64,
    /// How much it had handled when it was idle.
    pub handled: u64,
}

/// One per goods with bids; made, replaced and retired by the router.
pub struct BidActor {
    goods: GoodsId,
    line: BidQueue<Waiting, EndReply>,
    known: Arc<CommittedState>,
    ledger: Ledger,
    desk: Recipient<Retire>,
    /// Which of the actors of these goods this is.
    generation: u64,
    used_at: Instant,
    /// Whether a bid ever came; an actor that was only made for an end goes right after it.
    had_bids: bool,
    /// How much of what the desk has handed on has been handled.
    handled: u64,
}

impl BidActor {
    /// Starts an actor. Its mailbox has its size from the first message on: in `started` it would be too late for a
    /// burst that comes before the actor runs for the first time.
    pub(crate) fn open(
        goods: GoodsId,
        generation: u64,
        ledger: Ledger,
        known: Arc<CommittedState>,
        desk: Recipient<Retire>,
    ) -> Addr<Self> {
        Self::create(|ctx| {
            ctx.set_mailbox_capacity(MAILBOX);
            Self::new(goods, generation, ledger, known, desk)
        })
    }

    fn new(
        goods: GoodsId,
        generation: u64,
        ledger: Ledger,
        known: Arc<CommittedState>,
        desk: Recipient<Retire>,
    ) -> Self {
        Self {
            goods,
            line: BidQueue::new(Arc::clone(&known)),
            known,
            ledger,
            desk,
            generation,
            used_at: Instant::now(),
            had_bids: false,
            handled: 0,
        }
    }

    /// Hands the next batch or the end to the ledger, if it is their turn.
    fn go_on(&mut self, ctx: &mut Context<Self>) {
        let (me, known) = (ctx.address(), Arc::clone(&self.known));
        match self.line.next() {
            Some(Next::Bids(bids)) => {
                let deadline = bids.iter().map(|(_, waiting)| waiting.deadline).min().unwrap_or_else(Instant::now);
                let (bids, replies): (Vec<KeyedBid>, Vec<BidReply>) =
                    bids.into_iter().map(|(bid, waiting)| (bid, waiting.reply)).unzip();
                self.ledger.submit(PlaceBids { goods: self.goods, bids }, deadline, move |result| match result {
                    Ok(placed) => {
                        // Before anybody hears of it.
                        if let Some(goods) = &placed.goods {
                            known.learn(goods);
                        }
                        me.do_send(Done { unknown: placed.goods.is_none() });
                        for (reply, verdict) in replies.into_iter().zip(placed.verdicts) {
                            reply.answer(BidAnswer::Verdict(verdict));
                        }
                    }
                    Err(error) => {
                        me.do_send(Done { unknown: false });
                        for reply in replies {
                            reply.answer(BidAnswer::Failed(error));
                        }
                    }
                });
            }
            Some(Next::End(reply)) => {
                let deadline = Instant::now() + END_PATIENCE;
                self.ledger.submit(EndAuction(self.goods), deadline, move |result| {
                    if let Ok(Ended::Yes(goods) | Ended::NotYet(goods)) = &result {
                        known.learn(goods);
                    }
                    me.do_send(Done { unknown: matches!(result, Ok(Ended::UnknownGoods)) });
                    reply.answer(result);
                });
            }
            None => {}
        }
    }

    fn ask_to_retire(&self) {
        self.desk.do_send(Retire { goods: self.goods, generation: self.generation, handled: self.handled });
    }
}

impl Actor for BidActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(IDLE / 5, |actor, _| {
            if actor.line.is_idle() && actor.used_at.elapsed() >= IDLE {
                actor.ask_to_retire();
            }
        });
    }
}

/// A bid for this goods item.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Offer {
    pub bid: KeyedBid,
    pub deadline: Instant,
    pub reply: BidReply,
}

impl Handler<Offer> for BidActor {
    type Result = ();

    fn handle(&mut self, Offer { bid, deadline, reply }: Offer, ctx: &mut Self::Context) {
        self.used_at = Instant::now();
        self.had_bids = true;
        self.handled += 1;
        match self.line.offer(bid, Waiting { deadline, reply }) {
            Offered::Waits => self.go_on(ctx),
            Offered::Refused(refusal, waiting) => {
                waiting.reply.answer(BidAnswer::Verdict(BidVerdict::Refused(refusal)));
            }
            Offered::Full(waiting) => waiting.reply.answer(BidAnswer::Failed(WriteError::NotStored)),
        }
    }
}

/// The end of the auction, behind everything that waits.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct OfferEnd(pub EndReply);

impl Handler<OfferEnd> for BidActor {
    type Result = ();

    fn handle(&mut self, OfferEnd(reply): OfferEnd, ctx: &mut Self::Context) {
        self.used_at = Instant::now();
        self.handled += 1;
        self.line.offer_end(reply);
        self.go_on(ctx);
    }
}

/// What was in flight is committed, or has failed.
#[derive(Message)]
#[rtype(result = "()")]
struct Done {
    /// There are no such goods.
    unknown: bool,
}

impl Handler<Done> for BidActor {
    type Result = ();

    fn handle(&mut self, Done { unknown }: Done, ctx: &mut Self::Context) {
        self.line.done();
        self.go_on(ctx);
        if self.line.is_idle() && (unknown || !self.had_bids) {
            // Anybody can ask for goods that don't exist, and most ends need no line: such actors must not stay.
            self.ask_to_retire();
        }
    }
}

/// The goods are deleted: whoever bids on them now is told so by the ledger.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Forget;

impl Handler<Forget> for BidActor {
    type Result = ();

    fn handle(&mut self, _: Forget, _: &mut Self::Context) {
        self.known.forget();
    }
}

/// The desk has taken the actor off its list, and has handed it nothing since it was idle.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Leave;

impl Handler<Leave> for BidActor {
    type Result = ();

    fn handle(&mut self, _: Leave, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

#[cfg(test)]
pub(crate) mod test_support {
    use super::*;

    /// Makes the actor panic, as a bug in it would.
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
