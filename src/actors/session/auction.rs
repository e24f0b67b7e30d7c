//! The socket of an auction room. It passes on the client's bids and lines, and sends a refusal only to their author.
//! What everybody in the room receives comes from `rooms`, after the commit.

use std::{sync::Arc, time::Duration};

use actix::prelude::*;
use actix_web::{HttpResponse, HttpResponseBuilder};

use super::{Ctx, Role, Session, SessionContext, context::Registration, room_input::AlertTo, upgrade};
use crate::{
    actors::{
        bidding::{
            bid_actor::BidAnswer,
            bid_stats::Door,
            ingress::{ArrivingBid, BidIngress},
        },
        room_id::RoomId,
        rooms::rooms::Rooms,
    },
    domain::{GoodsId, Price},
    protocol::{Close, Code, Outcome, Problem, RoomAction},
    store::{
        Ledger, Store, WriteError,
        writes::{BidVerdict, LineSaid, SayLine},
    },
};

/// How long a line may take to be stored.
const STORE_LINE_TIMEOUT: Duration = Duration::from_secs(2);

/// What a socket of an auction room needs to open.
pub(crate) struct AuctionContext {
    pub goods: GoodsId,
    pub is_over: bool,
    /// Where the session checks that the goods still exist.
    pub store: Store,
    /// The actor that the session joins the room through.
    pub rooms: Addr<Rooms>,
    pub ingress: Arc<BidIngress>,
    pub ledger: Ledger,
    pub max_price: Price,
}

/// The state of a socket in an auction room.
struct AuctionRole(AuctionContext);

/// Opens a socket of an auction room.
pub(crate) async fn auction_socket(
    context: SessionContext,
    auction: AuctionContext,
    handshake: HttpResponseBuilder,
) -> HttpResponse {
    let room = (RoomId::Auction(auction.goods), auction.is_over);
    let registration = Registration::in_room(&context, &auction.rooms, room, None).await;
    // The goods may have been deleted while the socket opened. If the room was closed before this socket joined it,
    // nothing else would close the socket.
    if let Ok(None) = auction.store.phase(auction.goods).await {
        registration.outbox.borrow_mut().close(Close::GoodsDeleted);
    }
    upgrade(context, registration, AuctionRole(auction), None, handshake)
}

impl Role for AuctionRole {
    fn text(session: &mut Session<Self>, text: &str, ctx: &mut Ctx<Self>) {
        let Some((frame, user)) = session.accept_frame(text, AlertTo::ThisSocketToo) else { return };
        let AuctionContext { goods, max_price, .. } = session.role.0;
        match frame.into_auction_action(goods, user.id, max_price) {
            Ok(RoomAction::Bid(price)) => {
                // `arrive` queues the bid at once, before the next frame is read, so a client's bids keep their order.
                let spent = Duration::ZERO;
                let bid = ArrivingBid { door: Door::Room, goods, bidder: user, price, key: None, spent };
                let answer = session.role.0.ingress.arrive(bid);
                ctx.spawn(answer.into_actor(session).map(|answer, session, _| session.alert_if_refused(answer)));
            }
            Ok(RoomAction::Line(text)) => {
                // `write` queues the line at once too.
                let stored = session.role.0.ledger.write(SayLine { goods, author: user, text }, STORE_LINE_TIMEOUT);
                ctx.spawn(stored.into_actor(session).map(|stored, session, _| {
                    let refused = match stored {
                        Ok(LineSaid::Yes) => return,
                        Ok(LineSaid::UnknownGoods) => Problem::new(Code::NotFound, "no such goods"),
                        Err(_) => Problem::unavailable("the line could not be stored"),
                    };
                    session.alert(&refused, AlertTo::ThisSocketToo);
                }));
            }
            Err(problem) => session.alert(&problem, AlertTo::ThisSocketToo),
        }
    }
}

impl Session<AuctionRole> {
    /// Alerts the bidder if their bid was refused (fault 6). The whole room receives an accepted bid, its bidder too.
    fn alert_if_refused(&self, answer: BidAnswer) {
        let refused = match answer {
            BidAnswer::Verdict(BidVerdict::Accepted(_) | BidVerdict::Replayed(_) | BidVerdict::KeyReused) => return,
            BidAnswer::Verdict(BidVerdict::Refused(refusal)) => Problem::refused_bid(&refusal, self.role.0.max_price),
            BidAnswer::Verdict(BidVerdict::UnknownGoods) => Problem::new(Code::NotFound, "no such goods"),
            BidAnswer::Failed(WriteError::NotStored) => Problem::bid_unavailable(Outcome::NotStored),
            BidAnswer::Failed(WriteError::Unknown) => Problem::bid_unavailable(Outcome::Unknown),
        };
        self.alert(&refused, AlertTo::ThisSocketToo);
    }
}
