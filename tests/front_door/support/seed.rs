//! Writes into a database before a node opens it. It uses the library's own ledger, so that the rows are as the service
//! writes them, at thousands a second.

use std::{
    sync::{Arc, mpsc::channel},
    time::{Duration, Instant},
};

use handsup::test_support::{
    domain::{GoodsId, NewGoods, Price, Timestamp, UserId},
    store::{
        DatabaseUrl, LedgerThread, Store, Write, WriteError,
        writes::{CreateGoods, EnsureUser, Like, LikeSet, SetLike},
    },
    time_source::{SystemTime, TimeSource},
};

/// Writes under way at once: fewer than the ledger's queue holds.
const UNDER_WAY_LIMIT: usize = 2048;

/// A database that is not open anywhere else.
pub struct Seed(LedgerThread);

impl Seed {
    pub fn open(url: &str) -> Self {
        Self::at(url, Arc::new(SystemTime))
    }

    /// With a given time.
    pub fn at(url: &str, time: Arc<dyn TimeSource>) -> Self {
        let url = DatabaseUrl::parse(url).unwrap();
        let opened = Store::open(&url, 1).unwrap();
        Self(opened.start_ledger(0, time, Box::new(|_| {})).unwrap())
    }

    /// Writes all of these, many in a transaction; returns their results in order.
    pub fn write<W: Write>(&self, writes: impl IntoIterator<Item = W>) -> Vec<W::Out> {
        let (ledger, (sender, receiver)) = (self.0.ledger(), channel::<Result<W::Out, WriteError>>());
        let (mut done, mut submitted) = (Vec::new(), 0);
        let next_result = || receiver.recv().expect("an answer").expect("it is stored");
        for write in writes {
            if submitted - done.len() == UNDER_WAY_LIMIT {
                done.push(next_result());
            }
            let sender = sender.clone();
            ledger.submit(write, Instant::now() + Duration::from_secs(60), move |result| {
                let _ = sender.send(result);
            });
            submitted += 1;
        }
        while done.len() < submitted {
            done.push(next_result());
        }
        done
    }

    pub fn users(&self, ids: impl IntoIterator<Item = i64>) {
        self.write(ids.into_iter().map(|id| EnsureUser {
            id: UserId::from_stored(id),
            name: Some(format!("name{id}")),
            iat: None,
        }));
    }

    /// Goods that start at these times and last a day.
    pub fn goods(&self, seller: i64, title: &str, starts: impl IntoIterator<Item = Timestamp>) -> Vec<i64> {
        let made = self.write(starts.into_iter().map(|starts_at| CreateGoods {
            seller: UserId::from_stored(seller),
            goods: NewGoods {
                title: title.to_owned(),
                content: "seeded".to_owned(),
                category: "기타".to_owned(),
                start_price: Price::from_stored(1000),
                predict_price: Price::from_stored(1000),
                min_increment: Price::from_stored(1),
                starts_at,
                ends_at: starts_at.plus_ms(86_400_000),
                images: Vec::new(),
            },
        }));
        made.into_iter().map(|(id, _)| id.get()).collect()
    }

    /// Makes all of these users like all of these goods.
    pub fn likes(&self, goods: &[i64], users: impl IntoIterator<Item = i64> + Clone) {
        for goods in goods {
            let goods = GoodsId::from_stored(*goods);
            let like = |user| SetLike { user: UserId::from_stored(user), goods, like: Like::On };
            let liked = self.write(users.clone().into_iter().map(like));
            assert!(liked.into_iter().all(|liked| liked == LikeSet::Done));
        }
    }

    /// Waits until everything is on disk, and closes the database.
    pub fn finish(self) {
        self.0.stop();
    }
}
