//! A marketplace in the state and at the time that a test wants. It is written through the ledger before the node opens
//! the database, so that past auctions, room lines and trade messages are as the service writes them.

use std::{path::PathBuf, sync::Arc};

use handsup::test_support::{
    domain::{Bid, GoodsId, LineText, NewGoods, Price, Timestamp, TradeText, User, UserId},
    store::writes::{
        BidVerdict, CreateGoods, EndAuction, Ended, KeyedBid, LineSaid, MessageSent, PlaceBids, SayLine,
        SendTradeMessage, StartAuction,
    },
    time_source::TimeSource,
};
use tempfile::TempDir;

use super::{ManualTime, Seed, TestNode, database};

pub struct Market {
    pub time: Arc<ManualTime>,
    folder: Arc<TempDir>,
    seed: Option<Seed>,
}

impl Market {
    /// The time is 08:29:27.865026 in UTC, 17:29 in Seoul; users 1 to 9 are known.
    pub fn open() -> Self {
        let time = ManualTime::at(Timestamp::parse_rfc3339("2026-11-22T08:29:27.865026Z").unwrap());
        let market = Self::on(Arc::new(tempfile::tempdir().unwrap()), time);
        market.seed().users(1..=9);
        market
    }

    fn on(folder: Arc<TempDir>, time: Arc<ManualTime>) -> Self {
        let seed = Seed::at(&database::url(folder.path()), Arc::clone(&time) as Arc<dyn TimeSource>);
        Self { time, folder, seed: Some(seed) }
    }

    /// The market of a node, which is stopped for it.
    pub fn of(mut node: TestNode, time: &Arc<ManualTime>) -> Self {
        node.stop();
        Self::on(Arc::clone(&node.folder), Arc::clone(time))
    }

    /// Starts a node on what was written.
    pub fn serve(mut self) -> TestNode {
        self.seed.take().unwrap().finish();
        TestNode::on(self.folder, self.time, |_| {})
    }

    /// The file of the database.
    pub fn database(&self) -> PathBuf {
        database::default_path(self.folder.path())
    }

    /// The market's time.
    pub fn now(&self) -> Timestamp {
        self.time.now()
    }

    pub fn seed(&self) -> &Seed {
        self.seed.as_ref().unwrap()
    }

    /// Goods that start at `starts_at` and last an hour, changed by `change`.
    pub fn goods_at(&self, seller: i64, starts_at: Timestamp, change: impl FnOnce(&mut NewGoods)) -> i64 {
        let mut goods = NewGoods {
            title: "camera".to_owned(),
            content: "a camera".to_owned(),
            category: "기타".to_owned(),
            start_price: Price::from_stored(1000),
            predict_price: Price::from_stored(20_000),
            min_increment: Price::from_stored(1),
            starts_at,
            ends_at: starts_at.plus_ms(3_600_000),
            images: Vec::new(),
        };
        change(&mut goods);
        self.seed().write([CreateGoods { seller: UserId::from_stored(seller), goods }])[0].0.get()
    }

    /// Goods that start an hour from now.
    pub fn scheduled(&self, seller: i64) -> i64 {
        self.goods_at(seller, self.now().plus_ms(3_600_000), |_| {})
    }

    /// Goods that are live from now on.
    pub fn live(&self, seller: i64) -> i64 {
        let goods = self.goods_at(seller, self.now(), |_| {});
        self.seed().write([StartAuction(GoodsId::from_stored(goods))]);
        goods
    }

    /// Goods whose auction has just ended: with a buyer, who bid 7000, or unsold.
    pub fn ended(&self, seller: i64, buyer: Option<i64>) -> i64 {
        self.ended_with(seller, buyer, |_| {})
    }

    /// The same, changed by `change`.
    pub fn ended_with(&self, seller: i64, buyer: Option<i64>, change: impl FnOnce(&mut NewGoods)) -> i64 {
        let began = self.now().plus_ms(-3_600_000);
        let goods = self.goods_at(seller, began, change);
        if let Some(buyer) = buyer {
            self.bid(goods, buyer, 7000, began);
        }
        let ended = self.seed().write([EndAuction(GoodsId::from_stored(goods))]);
        assert!(matches!(ended[0], Ended::Yes(_)), "{ended:?}");
        goods
    }

    pub fn bid(&self, goods: i64, user: i64, price: i64, received_at: Timestamp) {
        let goods = GoodsId::from_stored(goods);
        let bid = Bid { goods, user: UserId::from_stored(user), price: Price::from_stored(price), received_at };
        let bids = vec![KeyedBid { bid, bidder: author(user), key: None }];
        let placed = &self.seed().write([PlaceBids { goods, bids }])[0];
        assert!(matches!(placed.verdicts[..], [BidVerdict::Accepted(_)]), "{:?}", placed.verdicts);
    }

    /// Lines said in an auction room, all at this moment.
    pub fn lines(&self, goods: i64, user: i64, texts: impl IntoIterator<Item = String>) {
        let line = |text: String| SayLine {
            goods: GoodsId::from_stored(goods),
            author: author(user),
            text: LineText::parse(&text).unwrap(),
        };
        assert!(self.seed().write(texts.into_iter().map(line)).into_iter().all(|said| said == LineSaid::Yes));
    }

    /// Messages written to the other side of a trade, all at this moment.
    pub fn messages(&self, goods: i64, user: i64, texts: impl IntoIterator<Item = String>) {
        let message = |text: String| SendTradeMessage {
            goods: GoodsId::from_stored(goods),
            author: author(user),
            text: TradeText::parse(&text).unwrap(),
        };
        assert!(self.seed().write(texts.into_iter().map(message)).into_iter().all(|sent| sent == MessageSent::Yes));
    }

    /// A message written a second after everything before.
    pub fn message(&self, goods: i64, user: i64, text: &str) {
        self.time.advance_ms(1000);
        self.messages(goods, user, [text.to_owned()]);
    }
}

fn author(user: i64) -> Arc<User> {
    Arc::new(User::first_seen(UserId::from_stored(user), Some(&format!("name{user}")), None))
}
