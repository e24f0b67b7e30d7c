//! The requests of callers: rising bids, bids that are too low, and plain requests.

use std::io::Write;

use super::{callers::Calls, token};

/// The same request again and again.
pub struct Same(Vec<u8>);

impl Same {
    pub fn get(path: &str) -> Self {
        Self(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes())
    }

    /// With a user's token.
    pub fn get_as(user: i64, path: &str) -> Self {
        Self(format!("GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n", token(user)).into_bytes())
    }
}

impl Calls for Same {
    fn next(&mut self, _: usize, request: &mut Vec<u8>) {
        request.extend_from_slice(&self.0);
    }
}

/// Bidders, one for each connection. They bid on the goods in turn. All prices rise together, unless all of them are
/// too low.
pub struct Bidders {
    /// What follows the path, for each connection.
    tails: Vec<String>,
    goods: Vec<i64>,
    price: i64,
    step: i64,
    turn: usize,
}

/// Prices have seven digits, so that all requests have the same length.
pub const FIRST_PRICE: i64 = 1_000_000;

impl Bidders {
    /// Bids above this price and each other.
    pub fn raising_from(users: impl Iterator<Item = i64>, goods: &[i64], price: i64) -> Self {
        Self::new(users, goods, price, 1)
    }

    /// Bids below all others' prices.
    pub fn too_low(users: impl Iterator<Item = i64>, goods: &[i64]) -> Self {
        Self::new(users, goods, FIRST_PRICE, 0)
    }

    /// The next bid is one above this.
    pub fn set_price(&mut self, price: i64) {
        self.price = price;
    }

    fn new(users: impl Iterator<Item = i64>, goods: &[i64], price: i64, step: i64) -> Self {
        let tail = |user| {
            format!(
                "/bids HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
                 Content-Length: 17\r\n\r\n{{\"price\":",
                token(user)
            )
        };
        Self { tails: users.map(tail).collect(), goods: goods.to_owned(), price, step, turn: 0 }
    }
}

impl Calls for Bidders {
    fn next(&mut self, connection: usize, request: &mut Vec<u8>) {
        let goods = self.goods[self.turn % self.goods.len()];
        self.turn += 1;
        self.price += self.step;
        let tail = &self.tails[connection % self.tails.len()];
        write!(request, "POST /goods/{goods}{tail}{:07}}}", self.price).unwrap();
    }
}
