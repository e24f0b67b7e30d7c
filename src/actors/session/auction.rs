//! The socket of an auction room: bids and lines in, refusals to their author alone. What everybody in the room hears
//! comes from the `rooms`, after the commit.

use std::{sync::Arc, time::Duration};

use actix::prelude::*;
use actix_web::{HttpResponse, HttpResponseBuilder};

use super::{Ctx, Role, Session, SessionContext, context::Registration, room_input::Heard, upgrade};
use crate::{
    actors::{
        bidding::{
            bid_actor::BidAnswer,
            ingress::{ArrivingBid, BidIngress},
        },
        room_id::RoomId,
        rooms::rooms::Rooms,
    },
    domain::{GoodsId, Price},
    protocol::{Close, Code, Outcome, Problem, Said},
    store::{
        Ledger, Store, WriteError,
        writes::{BidVerdict, SayLine},
    },
};

/// How long a line may take to be stored.
const LINE_PATIENCE: Duration = Duration::from_secs(2);

/// What a socket of an auction room needs to open.
pub struct AuctionContext {
    /// Whose room.
    pub goods: GoodsId,
    /// Whether the auction is over.
    pub is_over: bool,
    /// Where goods are looked up.
    pub store: Store,
    /// The rooms.
    pub rooms: Addr<Rooms>,
    /// Where bids come in.
    pub entrance: Arc<BidIngress>,
    /// Where lines are stored.
    pub ledger: Ledger,
    /// `limits.max_price`
    pub max_price: Price,
}

/// What a socket of an auction room knows.
struct AuctionRole(AuctionContext);

/// Opens a socket of an auction room.
pub async fn auction_socket(
    opening: SessionContext,
    auction: AuctionContext,
    handshake: HttpResponseBuilder,
) -> HttpResponse {
    let room = (RoomId::Auction(auction.goods), auction.is_over);
    let place = Registration::in_room(&opening, &auction.rooms, room, None).await;
    // Deleted while the socket was opening: the room may have been told before this socket was in it.
    if let Ok(None) = auction.store.phase(auction.goods).await {
        place.outbox.borrow_mut().close(Close::GoodsDeleted);
    }
    upgrade(opening, place, AuctionRole(auction), None, handshake)
}

impl Role for AuctionRole {
    fn text(session: &mut Session<Self>, text: &str, ctx: &mut Ctx<Self>) {
        let Some((spoken, user)) = session.listen(text, Heard::Here) else { return };
        let AuctionContext { goods, max_price, .. } = session.role.0;
        match spoken.in_auction(goods, user.id, max_price) {
            Ok(Said::Bid(price)) => {
                // Handed on before anything else of this socket is looked at: bids keep their order.
                let bid = ArrivingBid { goods, bidder: user, price, key: None, spent: Duration::ZERO };
                let answer = session.role.0.entrance.arrive(bid);
                ctx.spawn(answer.into_actor(session).map(|answer, session, _| session.tell_refused(answer)));
            }
            Ok(Said::Line(text)) => {
                // Likewise: it is in the ledger's queue when this returns.
                let stored = session.role.0.ledger.write(SayLine { goods, author: user, text }, LINE_PATIENCE);
                ctx.spawn(stored.into_actor(session).map(|stored, session, _| {
                    let refused = match stored {
                        Ok(true) => return,
                        Ok(false) => Problem::new(Code::NotFound, "no such goods"),
                        Err(_) => Problem::unavailable("the line could not be stored"),
                    };
                    session.alert(&refused, Heard::Here);
                }));
            }
            Err(problem) => session.alert(&problem, Heard::Here),
        }
    }
}

impl Session<AuctionRole> {
    /// An accepted bid is heard as a frame by the whole room, its bidder among them; a refused one by him alone (fault 6).
    fn tell_refused(&self, answer: BidAnswer) {
        let refused = match answer {
            BidAnswer::Verdict(BidVerdict::Accepted(_) | BidVerdict::Replayed(_) | BidVerdict::KeyReused) => return,
            BidAnswer::Verdict(BidVerdict::Refused(refusal)) => Problem::refused_bid(&refusal, self.role.0.max_price),
            BidAnswer::Verdict(BidVerdict::UnknownGoods) => Problem::new(Code::NotFound, "no such goods"),
            BidAnswer::Failed(WriteError::NotStored) => Problem::bid_unavailable(Outcome::NotStored),
            BidAnswer::Failed(WriteError::Unknown) => Problem::bid_unavailable(Outcome::Unknown),
        };
        self.alert(&refused, Heard::Here);
    }
}
