//! The `BidRouter`: sends each bid and each end to the `BidActor` of its goods. It creates these actors, replaces those
//! that have panicked and stops idle ones.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
    time::Instant,
};

use actix::prelude::*;

use super::{
    bid_actor::{BidActor, BidAnswer, BidReply, EndReply, Forget, MAILBOX_LIMIT, QueueBid, QueueEnd, Retire, Stop},
    bid_stats::BidStats,
    committed_goods::CommittedGoods,
};
use crate::{
    domain::GoodsId,
    store::{Ledger, WriteError, writes::KeyedBid},
};

/// Live bid actors. At the limit, bids on further goods are answered "not stored" until idle actors have stopped.
const MAX_ACTORS: usize = 50_000;

struct RoutedActor {
    actor: Addr<BidActor>,
    generation: u64,
    /// Messages sent to it.
    sent: u64,
}

/// Sends bids and ends to the bid actors; there is one per node.
pub struct BidRouter {
    ledger: Ledger,
    committed: Arc<CommittedGoods>,
    actors: HashMap<GoodsId, RoutedActor>,
    created: u64,
    stats: BidStats,
}

impl BidRouter {
    /// Starts a router whose counts nobody reads.
    #[cfg(any(test, feature = "test-support"))]
    pub fn open(ledger: Ledger, committed: Arc<CommittedGoods>) -> Addr<Self> {
        Self::open_counted(ledger, committed, BidStats::default())
    }

    /// Starts a router that counts in `stats`. Its actors share what they know of their goods through `committed`.
    pub(crate) fn open_counted(ledger: Ledger, committed: Arc<CommittedGoods>, stats: BidStats) -> Addr<Self> {
        Self::create(|ctx| {
            ctx.set_mailbox_capacity(MAILBOX_LIMIT);
            Self { ledger, committed, actors: HashMap::new(), created: 0, stats }
        })
    }

    /// Finds or creates the actor of these goods and counts one message to it. `None` if `at_most` actors live already.
    fn actor(&mut self, goods: GoodsId, at_most: usize, router: Addr<Self>) -> Option<&Addr<BidActor>> {
        let full = self.actors.len() >= at_most;
        let generation = self.created;
        let (ledger, all_committed) = (&self.ledger, &self.committed);
        let mut make = || {
            self.created += 1;
            let committed = all_committed.add(goods);
            let actor = BidActor::open(goods, generation, ledger.clone(), committed, router.clone().recipient());
            RoutedActor { actor, generation, sent: 0 }
        };
        let routed = match self.actors.entry(goods) {
            Entry::Occupied(entry) => {
                let routed = entry.into_mut();
                if !routed.actor.connected() {
                    // It panicked and its state is lost; the new one gets its state from the ledger.
                    log::error!(goods = goods.get(); "a bid actor died; started a new one");
                    self.stats.replaced.inc();
                    *routed = make();
                }
                routed
            }
            Entry::Vacant(_) if full => return None,
            Entry::Vacant(entry) => {
                self.stats.live.inc();
                entry.insert(make())
            }
        };
        routed.sent += 1;
        Some(&routed.actor)
    }
}

impl Actor for BidRouter {
    type Context = Context<Self>;
}

/// A bid that has arrived. Its reply is answered in every case.
#[derive(Message)]
#[rtype(result = "()")]
pub struct PlaceBid {
    pub bid: KeyedBid,
    /// After this the caller is gone and the bid is no longer judged.
    pub deadline: Instant,
    pub reply: BidReply,
}

impl Handler<PlaceBid> for BidRouter {
    type Result = ();

    fn handle(&mut self, PlaceBid { bid, deadline, reply }: PlaceBid, ctx: &mut Self::Context) {
        let goods = bid.bid.goods;
        match self.actor(goods, MAX_ACTORS, ctx.address()) {
            // A full mailbox returns the message; dropping its reply answers "not stored".
            Some(actor) => {
                if actor.try_send(QueueBid { bid, deadline, reply }).is_err() {
                    self.stats.turned_away.inc();
                    if let Some(routed) = self.actors.get_mut(&goods) {
                        routed.sent -= 1;
                    }
                }
            }
            None => {
                self.stats.turned_away.inc();
                reply.answer(BidAnswer::Failed(WriteError::NotStored));
            }
        }
    }
}

/// The end of an auction is due. It is queued behind the waiting bids.
#[derive(Message)]
#[rtype(result = "()")]
pub struct EndGoods {
    pub goods: GoodsId,
    /// Gets the outcome in every case.
    pub reply: EndReply,
}

impl Handler<EndGoods> for BidRouter {
    type Result = ();

    fn handle(&mut self, EndGoods { goods, reply }: EndGoods, ctx: &mut Self::Context) {
        // An end is never turned away: the clock limits how many are under way.
        if let Some(actor) = self.actor(goods, usize::MAX, ctx.address()) {
            actor.do_send(QueueEnd(reply));
        }
    }
}

/// Goods are deleted: their actor, if any, forgets their state.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ForgetGoods(pub GoodsId);

impl Handler<ForgetGoods> for BidRouter {
    type Result = ();

    fn handle(&mut self, ForgetGoods(goods): ForgetGoods, _: &mut Self::Context) {
        if let Some(routed) = self.actors.get(&goods) {
            routed.actor.do_send(Forget);
        }
    }
}

impl Handler<Retire> for BidRouter {
    type Result = ();

    fn handle(&mut self, Retire { goods, generation, handled }: Retire, _: &mut Self::Context) {
        // A replaced actor must not remove its successor, and an actor that has been sent a message since stays. Two
        // actors of the same goods would be two queues, and an end in one could overtake a bid in the other.
        if let Entry::Occupied(entry) = self.actors.entry(goods)
            && (entry.get().generation, entry.get().sent) == (generation, handled)
        {
            self.committed.remove(goods);
            entry.remove().actor.do_send(Stop);
            self.stats.live.dec();
        }
    }
}

/// Asks for [`RouterFigures`].
#[derive(Message)]
#[rtype(result = "RouterFigures")]
pub struct GetRouterFigures;

/// Figures for the health endpoint.
#[derive(Debug, Clone, Copy, Default, MessageResponse, serde::Serialize)]
pub struct RouterFigures {
    pub live: usize,
    /// Actors that have panicked and been replaced.
    pub replaced: u64,
    /// Bids answered "not stored" because a mailbox was full or there were too many actors.
    pub turned_away: u64,
}

impl Handler<GetRouterFigures> for BidRouter {
    type Result = RouterFigures;

    fn handle(&mut self, _: GetRouterFigures, _: &mut Self::Context) -> RouterFigures {
        let BidStats { replaced, turned_away, .. } = &self.stats;
        RouterFigures { live: self.actors.len(), replaced: replaced.get(), turned_away: turned_away.get() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        actors::bidding::bid_actor::test_support::Panic,
        domain::{Bid, NewGoods, Price, User, UserId},
        store::{
            self, LedgerThread, Sharing,
            writes::{BidVerdict, CreateGoods, Ended},
        },
        time_source::{SystemTime, TimeSource},
    };
    use std::time::Duration;

    /// Makes the router send the panic to the actor of these goods.
    #[derive(Message)]
    #[rtype(result = "()")]
    struct PanicOn(GoodsId);

    impl Handler<PanicOn> for BidRouter {
        type Result = ();

        fn handle(&mut self, PanicOn(goods): PanicOn, _: &mut Self::Context) {
            self.actors[&goods].actor.do_send(Panic);
        }
    }

    async fn fixture() -> (tempfile::TempDir, LedgerThread, Addr<BidRouter>, [GoodsId; 2]) {
        let (folder, opened) = store::test_support::open();
        let ledger = opened.ledger.clone();
        let thread = opened.start_ledger(0, Arc::new(SystemTime), Box::new(|_| {})).unwrap();
        let now = SystemTime.now();
        let price = Price::from_stored(1);
        let goods = NewGoods {
            title: "t".into(),
            content: String::new(),
            category: String::new(),
            start_price: price,
            predict_price: price,
            min_increment: price,
            starts_at: now,
            ends_at: now.plus_ms(600_000),
            images: vec![],
        };
        let mut made = [GoodsId::from_stored(1); 2];
        for one in &mut made {
            let make = CreateGoods { seller: UserId::from_stored(1), goods: goods.clone() };
            *one = ledger.write(make, Duration::from_secs(5)).await.unwrap().0;
        }
        (folder, thread, BidRouter::open(ledger, Arc::new(CommittedGoods::new(Sharing::Exclusive))), made)
    }

    async fn place(router: &Addr<BidRouter>, goods: GoodsId, price: i64) -> BidAnswer {
        let (reply, answer) = BidReply::new();
        let bid = Bid {
            goods,
            user: UserId::from_stored(2),
            price: Price::from_stored(price),
            received_at: SystemTime.now(),
        };
        let bid = KeyedBid { bidder: Arc::new(User::first_seen(bid.user, None, None)), bid, key: None };
        router.do_send(PlaceBid { bid, deadline: Instant::now() + Duration::from_secs(5), reply });
        answer.await.unwrap()
    }

    fn seq(answer: &BidAnswer) -> Option<i64> {
        match answer {
            BidAnswer::Verdict(BidVerdict::Accepted(stored)) => Some(stored.seq.get()),
            _ => None,
        }
    }

    #[actix::test]
    async fn a_panic_in_one_actor_stops_no_other_and_its_goods_recover() {
        let (_folder, _thread, router, [broken, other]) = fixture().await;
        assert_eq!(seq(&place(&router, broken, 1).await), Some(1));
        router.do_send(PanicOn(broken));
        assert_eq!(seq(&place(&router, other, 1).await), Some(1));
        // The first bid after the panic may reach the dying actor and is then answered "not stored".
        let mut answer = place(&router, broken, 2).await;
        if answer == BidAnswer::Failed(WriteError::NotStored) {
            answer = place(&router, broken, 2).await;
        }
        assert_eq!(seq(&answer), Some(2));
        assert_eq!(router.send(GetRouterFigures).await.unwrap().replaced, 1);
    }

    #[actix::test]
    async fn an_end_that_waits_in_a_dying_actor_is_answered() {
        let (_folder, _thread, router, [goods, _]) = fixture().await;
        assert_eq!(seq(&place(&router, goods, 1).await), Some(1));
        let mut outcomes = Vec::new();
        // The first end is on its way to the ledger when the panic comes, the second waits in the mailbox behind it.
        for panic_first in [false, true] {
            if panic_first {
                router.do_send(PanicOn(goods));
            }
            let (sender, receiver) = tokio::sync::oneshot::channel();
            let reply = EndReply::new(move |result| {
                let _ = sender.send(result);
            });
            router.do_send(EndGoods { goods, reply });
            outcomes.push(receiver);
        }
        for outcome in outcomes {
            let result = tokio::time::timeout(Duration::from_secs(5), outcome).await.expect("an answer").unwrap();
            assert!(matches!(result, Ok(Ended::NotYet(_)) | Err(WriteError::NotStored)), "{result:?}");
        }
    }

    #[actix::test]
    async fn actors_of_goods_that_do_not_exist_are_stopped() {
        let (_folder, _thread, router, _) = fixture().await;
        for id in 1000..1100 {
            let answer = place(&router, GoodsId::from_stored(id), 1).await;
            assert_eq!(answer, BidAnswer::Verdict(BidVerdict::UnknownGoods));
        }
        // Each actor asks to be stopped right after its answer, so all are gone soon.
        let deadline = Instant::now() + Duration::from_secs(5);
        while router.send(GetRouterFigures).await.unwrap().live > 0 {
            assert!(Instant::now() < deadline, "actors remain");
            tokio::task::yield_now().await;
        }
    }
}
