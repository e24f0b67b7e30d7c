//! The desk: finds the `BidActor` of the goods that a bid is for, makes one, replaces a dead one, retires idle ones.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
    time::Instant,
};

use actix::prelude::*;

use super::{
    bid_actor::{BidActor, BidAnswer, BidReply, EndReply, Forget, Leave, MAILBOX, Offer, OfferEnd, Retire},
    committed_goods::{CommittedGoods, CommittedState},
};
use crate::{
    domain::GoodsId,
    store::{Ledger, Nodes, WriteError, writes::KeyedBid},
};

/// Live bid actors; beyond, bids on further goods are answered "not stored" until idle ones have gone.
const MAX_ACTORS: usize = 50_000;

struct Desked {
    actor: Addr<BidActor>,
    generation: u64,
    /// How much has been handed on to it.
    handed: u64,
}

/// One for the whole node.
pub struct BidRouter {
    ledger: Ledger,
    nodes: Nodes,
    known: Arc<CommittedGoods>,
    actors: HashMap<GoodsId, Desked>,
    made: u64,
    replaced: u64,
    turned_away: u64,
}

impl BidRouter {
    /// Starts a desk in front of this ledger, the only one or beside those of other nodes. What its actors know is `known`.
    pub fn open(ledger: Ledger, nodes: Nodes, known: Arc<CommittedGoods>) -> Addr<Self> {
        Self::create(|ctx| {
            ctx.set_mailbox_capacity(MAILBOX);
            Self::new(ledger, nodes, known)
        })
    }

    fn new(ledger: Ledger, nodes: Nodes, known: Arc<CommittedGoods>) -> Self {
        Self { ledger, nodes, known, actors: HashMap::new(), made: 0, replaced: 0, turned_away: 0 }
    }

    /// The actor of these goods, to which something is about to be handed; `None` if it would be one too many.
    fn actor(&mut self, goods: GoodsId, at_most: usize, desk: Addr<Self>) -> Option<&Addr<BidActor>> {
        let full = self.actors.len() >= at_most;
        let generation = self.made;
        let (ledger, nodes, all_known) = (&self.ledger, self.nodes, &self.known);
        let mut make = || {
            self.made += 1;
            let known = CommittedState::new(nodes);
            all_known.insert(goods, Arc::clone(&known));
            let actor = BidActor::open(goods, generation, ledger.clone(), known, desk.clone().recipient());
            Desked { actor, generation, handed: 0 }
        };
        let desked = match self.actors.entry(goods) {
            Entry::Occupied(entry) => {
                let desked = entry.into_mut();
                if !desked.actor.connected() {
                    // It panicked. Its state is gone; the new one learns from the ledger.
                    log::error!("the bid actor of goods {goods} had died; made a new one");
                    self.replaced += 1;
                    *desked = make();
                }
                desked
            }
            Entry::Vacant(_) if full => return None,
            Entry::Vacant(entry) => entry.insert(make()),
        };
        desked.handed += 1;
        Some(&desked.actor)
    }
}

impl Actor for BidRouter {
    type Context = Context<Self>;
}

/// A bid that has arrived. Answered through its reply, in every case.
#[derive(Message)]
#[rtype(result = "()")]
pub struct PlaceBid {
    /// The bid, with its idempotency key.
    pub bid: KeyedBid,
    /// After this its caller is gone: it is not judged any more.
    pub deadline: Instant,
    /// Who is answered.
    pub reply: BidReply,
}

impl Handler<PlaceBid> for BidRouter {
    type Result = ();

    fn handle(&mut self, PlaceBid { bid, deadline, reply }: PlaceBid, ctx: &mut Self::Context) {
        let goods = bid.bid.goods;
        match self.actor(goods, MAX_ACTORS, ctx.address()) {
            // A full mailbox hands the message back, whose reply then says "not stored".
            Some(actor) => {
                if actor.try_send(Offer { bid, deadline, reply }).is_err() {
                    self.turned_away += 1;
                    if let Some(desked) = self.actors.get_mut(&goods) {
                        desked.handed -= 1;
                    }
                }
            }
            None => {
                self.turned_away += 1;
                reply.answer(BidAnswer::Failed(WriteError::NotStored));
            }
        }
    }
}

/// The end of an auction is due: it goes behind the bids that wait.
#[derive(Message)]
#[rtype(result = "()")]
pub struct EndGoods {
    /// Whose end.
    pub goods: GoodsId,
    /// Who is told what became of it, in every case.
    pub reply: EndReply,
}

impl Handler<EndGoods> for BidRouter {
    type Result = ();

    fn handle(&mut self, EndGoods { goods, reply }: EndGoods, ctx: &mut Self::Context) {
        // An end is never turned away: there are only so many under way.
        if let Some(actor) = self.actor(goods, usize::MAX, ctx.address()) {
            actor.do_send(OfferEnd(reply));
        }
    }
}

/// Goods are deleted: what is remembered of them no longer holds.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ForgetGoods(pub GoodsId);

impl Handler<ForgetGoods> for BidRouter {
    type Result = ();

    fn handle(&mut self, ForgetGoods(goods): ForgetGoods, _: &mut Self::Context) {
        if let Some(desked) = self.actors.get(&goods) {
            desked.actor.do_send(Forget);
        }
    }
}

impl Handler<Retire> for BidRouter {
    type Result = ();

    fn handle(&mut self, Retire { goods, generation, handled }: Retire, _: &mut Self::Context) {
        // An actor that has been replaced must not take its successor with it, and one that has been handed something
        // since stays: two actors of the same goods would be two lines, and an end in one could overtake a bid in the
        // other.
        if let Entry::Occupied(entry) = self.actors.entry(goods)
            && (entry.get().generation, entry.get().handed) == (generation, handled)
        {
            self.known.remove(goods);
            entry.remove().actor.do_send(Leave);
        }
    }
}

/// Asks for [`RouterFigures`].
#[derive(Message)]
#[rtype(result = "RouterFigures")]
pub struct GetRouterFigures;

/// Figures for the health endpoint.
#[derive(Debug, Clone, Copy, MessageResponse)]
pub struct RouterFigures {
    /// Live bid actors.
    pub live: usize,
    /// Actors that had died and were replaced.
    pub replaced: u64,
    /// Bids turned away because a mailbox was full or there were too many actors.
    pub turned_away: u64,
}

impl Handler<GetRouterFigures> for BidRouter {
    type Result = RouterFigures;

    fn handle(&mut self, _: GetRouterFigures, _: &mut Self::Context) -> RouterFigures {
        RouterFigures { live: self.actors.len(), replaced: self.replaced, turned_away: self.turned_away }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        actors::bidding::bid_actor::test_support::Panic,
        domain::{Bid, NewGoods, Price, User, UserId},
        store::{
            DatabaseUrl, LedgerRules, LedgerThread, Store,
            writes::{BidVerdict, Ended, MakeGoods},
        },
        time_source::{SystemTime, TimeSource},
    };
    use std::time::Duration;

    /// Makes the desk hand the panic on to the actor of these goods.
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
        let folder = tempfile::tempdir().unwrap();
        let url = DatabaseUrl::parse(&format!("sqlite://{}", folder.path().join("x.db").display())).unwrap();
        let opened = Store::open(&url, 1).unwrap();
        let rules = LedgerRules { soft_close_ms: 0, several_writers: false };
        let thread = opened.start_ledger(rules, Arc::new(SystemTime), Box::new(|_| {})).unwrap();
        let ledger = thread.ledger();
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
            let make = MakeGoods { seller: UserId::from_stored(1), goods: goods.clone() };
            *one = ledger.write(make, Duration::from_secs(5)).await.unwrap().0;
        }
        (folder, thread, BidRouter::open(ledger, Nodes::One, Arc::default()), made)
    }

    async fn place(desk: &Addr<BidRouter>, goods: GoodsId, price: i64) -> BidAnswer {
        let (reply, answer) = BidReply::new();
        let bid = Bid {
            goods,
            user: UserId::from_stored(2),
            price: Price::from_stored(price),
            received_at: SystemTime.now(),
        };
        let bid = KeyedBid { bidder: Arc::new(User::first_seen(bid.user, None, None)), bid, key: None };
        desk.do_send(PlaceBid { bid, deadline: Instant::now() + Duration::from_secs(5), reply });
        answer.await.unwrap()
    }

    fn seq(answer: &BidAnswer) -> Option<i64> {
        match answer {
            BidAnswer::Verdict(BidVerdict::Accepted(stored)) => Some(stored.seq),
            _ => None,
        }
    }

    #[actix::test]
    async fn a_panic_in_one_actor_stops_nobody_and_its_goods_recover() {
        let (_folder, _thread, desk, [broken, other]) = fixture().await;
        assert_eq!(seq(&place(&desk, broken, 1).await), Some(1));
        desk.do_send(PanicOn(broken));
        assert_eq!(seq(&place(&desk, other, 1).await), Some(1));
        // The first bid after it may have met the dying actor; it is told that it is not stored.
        let mut met = place(&desk, broken, 2).await;
        if met == BidAnswer::Failed(WriteError::NotStored) {
            met = place(&desk, broken, 2).await;
        }
        assert_eq!(seq(&met), Some(2));
        assert_eq!(desk.send(GetRouterFigures).await.unwrap().replaced, 1);
    }

    #[actix::test]
    async fn an_end_that_waits_in_a_dying_actor_is_answered() {
        let (_folder, _thread, desk, [goods, _]) = fixture().await;
        assert_eq!(seq(&place(&desk, goods, 1).await), Some(1));
        let mut told = Vec::new();
        // The first end is on its way to the ledger when the panic comes, the second waits in the mailbox behind it.
        for panic_first in [false, true] {
            if panic_first {
                desk.do_send(PanicOn(goods));
            }
            let (tell, hears) = tokio::sync::oneshot::channel();
            let reply = EndReply::new(move |result| {
                let _ = tell.send(result);
            });
            desk.do_send(EndGoods { goods, reply });
            told.push(hears);
        }
        for hears in told {
            let result = tokio::time::timeout(Duration::from_secs(5), hears).await.expect("an answer").unwrap();
            assert!(matches!(result, Ok(Ended::NotYet(_)) | Err(WriteError::NotStored)), "{result:?}");
        }
    }

    #[actix::test]
    async fn actors_of_goods_that_do_not_exist_do_not_stay() {
        let (_folder, _thread, desk, _) = fixture().await;
        for id in 1000..1100 {
            let answer = place(&desk, GoodsId::from_stored(id), 1).await;
            assert_eq!(answer, BidAnswer::Verdict(BidVerdict::UnknownGoods));
        }
        // Each actor asks to go right after its answer; the desk hears the last of them soon.
        let deadline = Instant::now() + Duration::from_secs(5);
        while desk.send(GetRouterFigures).await.unwrap().live > 0 {
            assert!(Instant::now() < deadline, "they stay");
            tokio::task::yield_now().await;
        }
    }
}
