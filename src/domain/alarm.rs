//! Alarms: their kinds, their texts and fields, and who gets which alarm when an auction ends.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    AlarmCursor, AlarmId, BidSeq, EventId, GoodsId, GoodsState, NoticeText, Price, Timestamp, TradeRoomId, UserId,
};

/// Why an alarm is raised (`docs/protocol.md#alarms`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum AlarmKind {
    /// Another user's bid took the lead.
    Outbid,
    /// The auction of goods that the user likes has started.
    AuctionStarted,
    /// The auction ends in a minute.
    EndingSoon,
    /// The user bought the goods.
    AuctionWon,
    /// Somebody else bought the goods that the user bid on.
    AuctionLost,
    /// The seller's goods are sold.
    AuctionSold,
    /// The seller's goods found no bidder.
    AuctionUnsold,
    /// The other side of a trade wrote a message.
    Chat,
    /// An admin has ended the auction, without a buyer.
    AuctionCancelled,
    /// An alarm that the marketplace's backend has raised.
    Notice,
}

impl AlarmKind {
    /// All kinds, in the order of the enum.
    pub const ALL: [AlarmKind; 10] = [
        AlarmKind::Outbid,
        AlarmKind::AuctionStarted,
        AlarmKind::EndingSoon,
        AlarmKind::AuctionWon,
        AlarmKind::AuctionLost,
        AlarmKind::AuctionSold,
        AlarmKind::AuctionUnsold,
        AlarmKind::Chat,
        AlarmKind::AuctionCancelled,
        AlarmKind::Notice,
    ];

    /// The name on the wire and in the database.
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
            AlarmKind::AuctionCancelled => "auction_cancelled",
            AlarmKind::Notice => "notice",
        }
    }

    /// The kind of that name; `None` if there is none.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The text that users read; `None` for `chat` and `notice`, where each alarm has its own text.
    const fn text(self, locale: Locale) -> Option<&'static str> {
        Some(match (locale, self) {
            (Locale::Ko, AlarmKind::Outbid) => "다른 핸더가 입찰했어요!",
            (Locale::Ko, AlarmKind::AuctionStarted) => "경매가 시작됐어요",
            (Locale::Ko, AlarmKind::EndingSoon) => "경매가 곧 끝나요!",
            (Locale::Ko, AlarmKind::AuctionWon) => "낙찰 되었습니다!",
            (Locale::Ko, AlarmKind::AuctionLost) => "아쉽게 낙찰받지 못했어요",
            (Locale::Ko, AlarmKind::AuctionSold) => "상품이 낙찰됐어요!",
            (Locale::Ko, AlarmKind::AuctionUnsold) => "입찰 없이 경매가 끝났어요",
            (Locale::Ko, AlarmKind::AuctionCancelled) => "경매가 취소됐어요",
            (Locale::En, AlarmKind::Outbid) => "Another bidder has outbid you!",
            (Locale::En, AlarmKind::AuctionStarted) => "The auction has started",
            (Locale::En, AlarmKind::EndingSoon) => "The auction ends soon!",
            (Locale::En, AlarmKind::AuctionWon) => "You won the auction!",
            (Locale::En, AlarmKind::AuctionLost) => "You did not win this auction",
            (Locale::En, AlarmKind::AuctionSold) => "Your item has been sold!",
            (Locale::En, AlarmKind::AuctionUnsold) => "The auction ended without a bid",
            (Locale::En, AlarmKind::AuctionCancelled) => "The auction was cancelled",
            (_, AlarmKind::Chat | AlarmKind::Notice) => return None,
        })
    }
}

/// A language of the texts: that of a user, else that of `alarms.locale`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Locale {
    Ko,
    En,
}

impl Locale {
    /// All languages, in the order of the enum.
    pub const ALL: [Locale; 2] = [Locale::Ko, Locale::En];

    /// The name in settings, on the wire and in the database.
    pub const fn name(self) -> &'static str {
        match self {
            Locale::Ko => "ko",
            Locale::En => "en",
        }
    }

    /// The language of that name; `None` if there is none.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|locale| locale.name() == name)
    }
}

/// One alarm as stored, the same for all its receivers. Fields that its kind doesn't have are `None`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// The alarm's id; ids rise in commit order.
    pub id: AlarmId,
    /// The event that raised it, shared by all chunks of a large fan-out.
    pub event: EventId,
    pub kind: AlarmKind,
    pub goods: Option<GoodsId>,
    pub goods_title: Option<String>,
    pub created_at: Timestamp,
    /// The highest price at that time.
    pub high_price: Option<Price>,
    /// The auction's end as known at that time.
    pub ends_at: Option<Timestamp>,
    /// The least price of the first bid.
    pub start_price: Option<Price>,
    /// The trade room of buyer and seller.
    pub trade_room: Option<TradeRoomId>,
    /// Of an `outbid`: the bid that took the lead. The alarm is superseded when its receiver has bid
    /// since.
    pub bid_seq: Option<BidSeq>,
    /// The alarm's own text; `None` if its kind has a text.
    pub text: Option<String>,
    /// Of a `chat`: who wrote the message.
    pub sender: Option<Sender>,
}

/// The author of a trade message, with their name at that time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sender {
    pub id: UserId,
    pub name: String,
}

/// A receiver of an alarm, with the end of their inbox before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receiver {
    pub user: UserId,
    /// The inbox's end before the alarm, where several nodes write: a session that has not got so far reads the store.
    /// The start if only one node writes.
    pub after: AlarmCursor,
}

impl Alarm {
    /// The text that users read.
    pub fn message(&self, locale: Locale) -> &str {
        self.text.as_deref().or(self.kind.text(locale)).unwrap_or_default()
    }

    /// The `chat` alarm of a trade message.
    pub fn chat(id: AlarmId, goods: &GoodsState, sender: Sender, text: String, now: Timestamp) -> Self {
        let alarm = Self::about(AlarmKind::Chat, id, EventId::from_stored(id.get()), goods, None, now);
        Self { text: Some(text), sender: Some(sender), ..alarm }
    }

    /// The alarm of a notice, which may be about goods.
    pub fn notice(id: AlarmId, goods: Option<&GoodsState>, text: &NoticeText, now: Timestamp) -> Self {
        let bare = Self::bare(AlarmKind::Notice, id, EventId::from_stored(id.get()), now);
        Self {
            goods: goods.map(|goods| goods.id),
            goods_title: goods.map(|goods| goods.title.clone()),
            text: Some(text.as_str().to_owned()),
            ..bare
        }
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
            goods: Some(goods.id),
            goods_title: Some(goods.title.clone()),
            // Before the first bid the highest price is 0 on the wire (as in the goods' JSON).
            high_price: has(&[Outbid, EndingSoon, AuctionWon, AuctionLost, AuctionSold])
                .then(|| goods.lead.map_or(Price::from_stored(0), |lead| lead.price)),
            ends_at: has(&[Outbid, AuctionStarted, EndingSoon]).then_some(goods.ends_at),
            start_price: has(&[AuctionStarted]).then_some(goods.start_price),
            trade_room: trade_room.filter(|_| has(&[AuctionWon, AuctionSold])),
            bid_seq: has(&[Outbid]).then_some(goods.bid_seq),
            ..Self::bare(kind, id, event, now)
        }
    }

    /// An alarm with only the fields that every kind has.
    fn bare(kind: AlarmKind, id: AlarmId, event: EventId, now: Timestamp) -> Self {
        Self {
            id,
            event,
            kind,
            goods: None,
            goods_title: None,
            created_at: now,
            high_price: None,
            ends_at: None,
            start_price: None,
            trade_room: None,
            bid_seq: None,
            text: None,
            sender: None,
        }
    }
}

/// The alarms of an auction's end and their receivers: the buyer, the seller, the other bidders. Each user gets one.
pub(crate) fn end_alarms(goods: &GoodsState, bidders: &[UserId]) -> Vec<(AlarmKind, Vec<UserId>)> {
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
    fn every_name_parses_to_its_kind() {
        for kind in AlarmKind::ALL {
            assert_eq!(AlarmKind::from_name(kind.name()), Some(kind));
        }
        assert_eq!(AlarmKind::from_name("alert"), None);
        for (at, locale) in Locale::ALL.into_iter().enumerate() {
            assert_eq!((Locale::from_name(locale.name()), locale as usize), (Some(locale), at));
        }
        assert_eq!(Locale::from_name("EN"), None);
    }

    #[test]
    fn every_kind_has_a_text_of_its_own_in_every_language_or_each_alarm_has_one() {
        let own = |kind| [AlarmKind::Chat, AlarmKind::Notice].contains(&kind);
        let mut texts = std::collections::HashSet::new();
        for locale in Locale::ALL {
            for kind in AlarmKind::ALL {
                let text = kind.text(locale);
                assert_eq!(text.is_none(), own(kind), "{kind:?}");
                assert!(text.is_none_or(|text| texts.insert(text)), "{kind:?} in {locale:?}");
                let is_korean = |text: &str| text.chars().any(|letter| ('가'..='힣').contains(&letter));
                assert!(text.is_none_or(|text| is_korean(text) == (locale == Locale::Ko)), "{kind:?} in {locale:?}");
            }
        }
    }
}
