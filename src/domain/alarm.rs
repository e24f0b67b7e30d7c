//! Alarms: their kinds, texts, and who hears of an end. How they are stored and sent is not known here.

use serde::{Deserialize, Serialize};

use super::{AlarmId, EventId, GoodsId, GoodsState, Price, Timestamp, TradeRoomId, UserId};

/// Why somebody is alarmed (`docs/protocol.md#alarms`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AlarmKind {
    /// Another user's bid took the lead.
    Outbid,
    /// Goods that the user likes are live.
    AuctionStarted,
    /// One minute to the end.
    EndingSoon,
    /// The user bought the goods.
    AuctionWon,
    /// Somebody else bought the goods that the user bid on.
    AuctionLost,
    /// The seller's goods are sold.
    AuctionSold,
    /// The seller's goods found no bidder.
    AuctionUnsold,
    /// The other trader wrote.
    Chat,
}

impl AlarmKind {
    /// All kinds.
    pub const ALL: [AlarmKind; 8] = [
        AlarmKind::Outbid,
        AlarmKind::AuctionStarted,
        AlarmKind::EndingSoon,
        AlarmKind::AuctionWon,
        AlarmKind::AuctionLost,
        AlarmKind::AuctionSold,
        AlarmKind::AuctionUnsold,
        AlarmKind::Chat,
    ];

    /// The name on the wire and in the rows.
    pub const fn name(self) -> &'static str {
        match self {
            AlarmKind::Outbid => "outbid",
            AlarmKind::AuctionStarted => "auction_started",
            AlarmKind::EndingSoon => "ending_soon",
            AlarmKind::AuctionWon => "auction_won",
            AlarmKind::AuctionLost => "auction_lost",
            AlarmKind::AuctionSold => "auction_sold",
            AlarmKind::AuctionUnsold => "auction_unsold",
            AlarmKind::Chat => "chat",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The text that people read; `None` where each alarm has a text of its own.
    const fn text(self, locale: Locale) -> Option<&'static str> {
        Some(match (locale, self) {
            (Locale::Ko, AlarmKind::Outbid) => "다른 핸더가 입찰했어요!",
            (Locale::Ko, AlarmKind::AuctionStarted) => "경매가 시작됐어요",
            (Locale::Ko, AlarmKind::EndingSoon) => "경매가 곧 끝나요!",
            (Locale::Ko, AlarmKind::AuctionWon) => "낙찰 되었습니다!",
            (Locale::Ko, AlarmKind::AuctionLost) => "아쉽게 낙찰받지 못했어요",
            (Locale::Ko, AlarmKind::AuctionSold) => "상품이 낙찰됐어요!",
            (Locale::Ko, AlarmKind::AuctionUnsold) => "입찰 없이 경매가 끝났어요",
            (Locale::En, AlarmKind::Outbid) => "Another bidder has outbid you!",
            (Locale::En, AlarmKind::AuctionStarted) => "The auction has started",
            (Locale::En, AlarmKind::EndingSoon) => "The auction ends soon!",
            (Locale::En, AlarmKind::AuctionWon) => "You won the auction!",
            (Locale::En, AlarmKind::AuctionLost) => "You did not win this auction",
            (Locale::En, AlarmKind::AuctionSold) => "Your goods are sold!",
            (Locale::En, AlarmKind::AuctionUnsold) => "The auction ended without a bid",
            (_, AlarmKind::Chat) => return None,
        })
    }
}

/// Language of the texts (`alarms.locale`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locale {
    /// Korean.
    Ko,
    /// English.
    En,
}

/// One alarm as stored: one payload for all its receivers. Fields that its kind doesn't have are `None`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// Rises in commit order.
    pub id: AlarmId,
    /// What raised it; the chunks of a large fan-out share it.
    pub event: EventId,
    /// Why.
    pub kind: AlarmKind,
    /// About which goods.
    pub goods: Option<GoodsId>,
    /// Their title at that time.
    pub goods_title: Option<String>,
    /// When it was stored.
    pub created_at: Timestamp,
    /// The highest price at that time.
    pub high_price: Option<Price>,
    /// The end, as known at that time.
    pub ends_at: Option<Timestamp>,
    /// The least first bid.
    pub start_price: Option<Price>,
    /// Where buyer and seller meet.
    pub trade_room: Option<TradeRoomId>,
    /// Of an `outbid`: the number of the bid that took the lead. It no longer holds when its receiver has bid since.
    pub bid_seq: Option<i64>,
    /// Its own text, where its kind has none.
    pub text: Option<String>,
    /// Of a `chat`: who wrote.
    pub sender: Option<Sender>,
}

/// Who wrote a message, as he was called then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sender {
    /// Who.
    pub id: UserId,
    /// His name.
    pub name: String,
}

/// Whose inbox has an alarm, and what that inbox ended with before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receiver {
    /// Whose.
    pub user: UserId,
    /// The newest alarm before it, where several nodes write: a session that has not had that one reads the store. 0: there
    /// is none, or nobody else writes.
    pub after: i64,
}

impl Alarm {
    /// The text that people read.
    pub fn message(&self, locale: Locale) -> &str {
        self.text.as_deref().or(self.kind.text(locale)).unwrap_or_default()
    }

    /// The `chat` alarm of a trade message.
    pub fn chat(id: AlarmId, goods: &GoodsState, sender: Sender, text: String, now: Timestamp) -> Self {
        let alarm = Self::about(AlarmKind::Chat, id, EventId::from_stored(id.get()), goods, None, now);
        Self { text: Some(text), sender: Some(sender), ..alarm }
    }

    /// The alarm of `kind` about `goods`, with the fields that the contract gives this kind.
    pub fn about(
        kind: AlarmKind,
        id: AlarmId,
        event: EventId,
        goods: &GoodsState,
        trade_room: Option<TradeRoomId>,
        now: Timestamp,
    ) -> Self {
        use AlarmKind::*;
        let has = |kinds: &[AlarmKind]| kinds.contains(&kind);
        Self {
            id,
            event,
            kind,
            goods: Some(goods.id),
            goods_title: Some(goods.title.clone()),
            created_at: now,
            // Before the first bid the highest price is 0 on the wire (as in the goods' shape).
            high_price: has(&[Outbid, EndingSoon, AuctionWon, AuctionLost, AuctionSold])
                .then(|| goods.lead.map_or(Price::from_stored(0), |lead| lead.price)),
            ends_at: has(&[Outbid, AuctionStarted, EndingSoon]).then_some(goods.ends_at),
            start_price: has(&[AuctionStarted]).then_some(goods.start_price),
            trade_room: trade_room.filter(|_| has(&[AuctionWon, AuctionSold])),
            bid_seq: has(&[Outbid]).then_some(goods.bid_seq),
            text: None,
            sender: None,
        }
    }
}

/// Who hears what when an auction ends: the buyer, the other bidders, the seller; each user once.
pub fn end_alarms(goods: &GoodsState, bidders: &[UserId]) -> Vec<(AlarmKind, Vec<UserId>)> {
    let Some(lead) = goods.lead else { return vec![(AlarmKind::AuctionUnsold, vec![goods.seller])] };
    let others: Vec<_> = bidders.iter().copied().filter(|user| *user != lead.user && *user != goods.seller).collect();
    let mut alarms = vec![(AlarmKind::AuctionWon, vec![lead.user]), (AlarmKind::AuctionSold, vec![goods.seller])];
    if !others.is_empty() {
        alarms.push((AlarmKind::AuctionLost, others));
    }
    alarms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for kind in AlarmKind::ALL {
            assert_eq!(AlarmKind::from_name(kind.name()), Some(kind));
        }
        assert_eq!(AlarmKind::from_name("alert"), None);
    }
}
