//! New goods as a seller submits them, and the check of each field.
//! Fields that a seller can't set (price reached, buyer, phase, trade room) don't exist here (faults 13 and 15).

use chrono_tz::Tz;

use super::{Price, Timestamp};

/// What a seller submits, not checked yet.
#[derive(Debug, Clone)]
pub struct GoodsDraft {
    /// 1 to 256 characters.
    pub title: String,
    pub content: String,
    /// At most 64 characters.
    pub category: String,
    /// The least price of the first bid.
    pub start_price: Price,
    /// The price that the seller expects.
    pub predict_price: Price,
    pub start: StartInput,
    /// Length of the auction in seconds; `None` means `auction.duration_s`.
    pub duration_s: Option<i64>,
    /// The least step from the highest bid to the next; `None` means 1.
    pub min_increment: Option<Price>,
    /// Paths of the pictures, at most 20.
    pub images: Vec<String>,
}

/// The two ways to say when an auction starts.
#[derive(Debug, Clone)]
pub enum StartInput {
    /// An RFC 3339 text.
    Instant(String),
    /// The origin's two fields, local to `auction.time_zone`.
    Local {
        /// The day: `2026-11-22`.
        date: String,
        /// The minute: `17:29`.
        time: String,
    },
}

/// The settings that apply to new goods.
#[derive(Debug, Clone, Copy)]
pub struct DraftRules {
    pub time_zone: Tz,
    pub duration_s: i64,
}

/// Checked goods, ready to be stored.
#[derive(Debug, Clone)]
pub struct NewGoods {
    /// 1 to 256 characters.
    pub title: String,
    pub content: String,
    /// At most 64 characters.
    pub category: String,
    /// The least price of the first bid.
    pub start_price: Price,
    /// The price that the seller expects.
    pub predict_price: Price,
    /// The least step from the highest bid to the next.
    pub min_increment: Price,
    pub starts_at: Timestamp,
    /// When the auction ends, unless a late bid moves its end.
    pub ends_at: Timestamp,
    /// Paths of the pictures, at most 20.
    pub images: Vec<String>,
}

/// The field that is wrong and what it should be, in words for the seller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DraftError {
    /// The field's name in the body.
    pub field: &'static str,
    /// What would be right, as a noun phrase: `at most 64 characters`.
    pub expected: &'static str,
}

const MAX_DURATION_S: i64 = 2_592_000;
const MAX_START_AGE_MS: i64 = 60_000;
const MAX_IMAGES: usize = 20;

impl GoodsDraft {
    /// Checks every field and fills in the defaults.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn check(self, rules: &DraftRules, now: Timestamp) -> Result<NewGoods, DraftError> {
        let wrong = |field, expected| Err(DraftError { field, expected });
        if self.title.trim().is_empty() || self.title.chars().count() > 256 {
            return wrong("title", "1 to 256 characters, not only spaces");
        }
        if self.category.chars().count() > 64 {
            return wrong("category", "at most 64 characters");
        }
        let duration_s = self.duration_s.unwrap_or(rules.duration_s);
        if !(1..=MAX_DURATION_S).contains(&duration_s) {
            return wrong("duration_s", "whole seconds, 1 to 2592000");
        }
        if self.images.len() > MAX_IMAGES || !self.images.iter().all(|path| is_picture_path(path)) {
            return wrong("images", "at most 20 relative paths of pictures, each 1 to 256 characters");
        }
        let (field, starts_at) = match &self.start {
            StartInput::Instant(text) => ("starts_at", Timestamp::parse_rfc3339(text)),
            StartInput::Local { date, time } => ("start_date", Timestamp::parse_local(date, time, rules.time_zone)),
        };
        let Some(starts_at) = starts_at else {
            let field = match &self.start {
                StartInput::Local { date, .. } if is_date(date, rules.time_zone) => "start_time",
                _ => field,
            };
            return wrong(field, "a valid time: starts_at in RFC 3339, or start_date YYYY-MM-DD with start_time HH:MM");
        };
        if starts_at < now.plus_ms(-MAX_START_AGE_MS) {
            return wrong(field, "a start at most 60 seconds in the past");
        }
        // A hundred years are far beyond any auction, and leave room for its duration and soft closes in the calendar.
        if starts_at > now.plus_ms(100 * 366 * 86_400_000) {
            return wrong(field, "a start within the next hundred years");
        }
        Ok(NewGoods {
            title: self.title,
            content: self.content,
            category: self.category,
            start_price: self.start_price,
            predict_price: self.predict_price,
            min_increment: self.min_increment.unwrap_or(Price::from_stored(1)),
            starts_at,
            ends_at: starts_at.plus_ms(duration_s * 1000),
            images: self.images,
        })
    }
}

/// Whether the day alone is valid.
fn is_date(date: &str, tz: Tz) -> bool {
    Timestamp::parse_local(date, "12:00", tz).is_some()
}

/// Whether this is a path within the marketplace, and no URL of another place (`https://…`, `//host`, `javascript:`).
fn is_picture_path(path: &str) -> bool {
    let length_ok = (1..=256).contains(&path.chars().count());
    length_ok
        && !path.starts_with("//")
        && !path.chars().any(|c| c.is_control() || c == '\\' || c == ':')
        && !path.split('/').any(|part| part == "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft() -> GoodsDraft {
        GoodsDraft {
            title: "camera".into(),
            content: String::new(),
            category: "기타".into(),
            start_price: Price::from_stored(1),
            predict_price: Price::from_stored(1),
            start: StartInput::Instant("2026-11-22T08:00:00Z".into()),
            duration_s: None,
            min_increment: None,
            images: vec!["/media/goods/a.png".into()],
        }
    }

    const RULES: DraftRules = DraftRules { time_zone: chrono_tz::Asia::Seoul, duration_s: 1200 };

    fn now() -> Timestamp {
        Timestamp::parse_rfc3339("2026-11-22T08:00:00Z").unwrap()
    }

    #[test]
    fn defaults_fill_missing_fields() {
        let goods = draft().check(&RULES, now()).unwrap();
        assert_eq!((goods.ends_at.ms_since(goods.starts_at), goods.min_increment.won()), (1_200_000, 1));
        let local = StartInput::Local { date: "2026-11-22".into(), time: "17:00".into() };
        assert_eq!(GoodsDraft { start: local, ..draft() }.check(&RULES, now()).unwrap().starts_at, now());
    }

    #[test]
    fn fault_15_wrong_fields_are_named() {
        let field = |d: GoodsDraft| d.check(&RULES, now()).err().map(|e| e.field);
        assert_eq!(field(GoodsDraft { title: " ".into(), ..draft() }), Some("title"));
        assert_eq!(field(GoodsDraft { title: "x".repeat(257), ..draft() }), Some("title"));
        assert_eq!(field(GoodsDraft { title: "가".repeat(256), ..draft() }), None, "characters, not bytes");
        assert_eq!(field(GoodsDraft { duration_s: Some(0), ..draft() }), Some("duration_s"));
        assert_eq!(field(GoodsDraft { duration_s: Some(2_592_001), ..draft() }), Some("duration_s"));
        for start in ["2026-11-22T07:58:59Z", "9999-01-01T00:00:00Z", "soon"] {
            assert_eq!(field(GoodsDraft { start: StartInput::Instant(start.into()), ..draft() }), Some("starts_at"));
        }
        let within = StartInput::Instant("2026-11-22T07:59:01Z".into());
        assert_eq!(field(GoodsDraft { start: within, ..draft() }), None);
        for path in ["https://x/a.png", "//x/a.png", "javascript:1", "/media/../../etc/passwd", "", "a\nb"] {
            assert_eq!(field(GoodsDraft { images: vec![path.into()], ..draft() }), Some("images"), "{path:?}");
        }
    }
}
