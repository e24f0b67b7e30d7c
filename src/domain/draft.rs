//! Goods as a seller or the marketplace's backend submits them, the check of each field, and what may still change of
//! existing ones. Fields that a seller can't set (price reached, buyer, phase, trade room) don't exist here (faults 13 and 15).

use chrono_tz::Tz;

use super::{GoodsState, Phase, Price, Timestamp, parse_picture};

/// What a seller submits, not checked yet. `None` is left out: it gets its default, or stays as it is.
#[derive(Debug, Clone, Default)]
pub struct GoodsDraft {
    /// 1 to 256 characters.
    pub title: Option<String>,
    pub content: Option<String>,
    /// At most 64 characters.
    pub category: Option<String>,
    /// The least price of the first bid.
    pub start_price: Option<Price>,
    /// The price that the seller expects; the start price if left out.
    pub predict_price: Option<Price>,
    pub start: Option<StartInput>,
    /// Length of the auction in seconds; `auction.duration_s` if left out.
    pub duration_s: Option<i64>,
    /// The least step from the highest bid to the next; 1 if left out.
    pub min_increment: Option<Price>,
    /// Pictures, at most 20.
    pub images: Option<Vec<String>>,
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
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// Pictures, at most 20: paths and URLs.
    pub images: Vec<String>,
}

impl NewGoods {
    /// The names of the fields in which these goods differ from others.
    pub(crate) fn differences(&self, other: &Self) -> Vec<&'static str> {
        let duration = |goods: &Self| goods.ends_at.ms_since(goods.starts_at);
        [
            ("title", self.title != other.title),
            ("content", self.content != other.content),
            ("category", self.category != other.category),
            ("start_price", self.start_price != other.start_price),
            ("predict_price", self.predict_price != other.predict_price),
            ("starts_at", self.starts_at != other.starts_at),
            ("duration_s", duration(self) != duration(other)),
            ("min_increment", self.min_increment != other.min_increment),
            ("images", self.images != other.images),
        ]
        .into_iter()
        .filter_map(|(field, differs)| differs.then_some(field))
        .collect()
    }
}

/// Why a draft is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DraftError {
    /// The body must have this field; more than one name: or these.
    Missing(&'static str),
    Wrong {
        /// The field's name in the body.
        field: &'static str,
        /// What would be right, as a noun phrase: `at most 64 characters`.
        expected: &'static str,
    },
}

/// Why existing goods can't be changed (`docs/protocol.md#goods-of-the-marketplace`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UpdateRefusal {
    /// The auction is live, so only its description may change.
    Started,
    /// The auction has ended, so nothing may change.
    Ended,
}

/// What may change while the auction is live.
const DESCRIPTION: [&str; 4] = ["title", "content", "category", "images"];

impl UpdateRefusal {
    /// The reason not to change these fields at `now`; `None` if they may be changed.
    pub(crate) fn of(goods: &GoodsState, fields: &[&str], now: Timestamp) -> Option<Self> {
        let is_scheduled = goods.phase == Phase::Scheduled && now < goods.starts_at;
        if fields.is_empty() || is_scheduled {
            None
        } else if goods.phase == Phase::Ended || goods.end_due(now) {
            Some(Self::Ended)
        } else {
            fields.iter().any(|field| !DESCRIPTION.contains(field)).then_some(Self::Started)
        }
    }
}

/// The id that the marketplace's backend has for goods: 1 to 128 characters, none of them a control character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExternalId(String);

impl ExternalId {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let fits = (1..=128).contains(&text.chars().count()) && !text.chars().any(char::is_control);
        fits.then(|| Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

const MAX_DURATION_S: i64 = 2_592_000;
const MAX_START_AGE_MS: i64 = 60_000;
const MAX_IMAGES: usize = 20;

impl StartInput {
    /// Its fields in a body, to name them as missing.
    pub(crate) const FIELDS: &str = "starts_at` or `start_date` with `start_time";

    /// Parses the start; `Err` names the field that is wrong.
    fn parse(&self, tz: Tz) -> Result<(&'static str, Timestamp), &'static str> {
        let (field, at) = match self {
            Self::Instant(text) => ("starts_at", Timestamp::parse_rfc3339(text)),
            Self::Local { date, time } => ("start_date", Timestamp::parse_local(date, time, tz)),
        };
        at.map(|at| (field, at)).ok_or(match self {
            Self::Local { date, .. } if is_date(date, tz) => "start_time",
            _ => field,
        })
    }
}

/// Checks a start that is new. `current`: the start that the goods have had; one that has passed can't be changed
/// ([`UpdateRefusal`]), so then its successor's age is not looked at.
fn check_start(
    field: &'static str,
    at: Timestamp,
    current: Option<Timestamp>,
    now: Timestamp,
) -> Result<(), DraftError> {
    let wrong = |expected| Err(DraftError::Wrong { field, expected });
    if at < now.plus_ms(-MAX_START_AGE_MS) && current.is_none_or(|current| now < current) {
        return wrong("a start at most 60 seconds in the past");
    }
    // A hundred years are far beyond any auction, and leave room for its duration and soft closes in the calendar.
    if at > now.plus_ms(100 * 366 * 86_400_000) {
        return wrong("a start within the next hundred years");
    }
    Ok(())
}

impl GoodsDraft {
    /// Checks every field. What is left out stays as it is in `current`; of new goods (`None`) it gets its default.
    ///
    /// # Errors
    /// The first field that is missing or wrong. A start is not refused for its age if it stays as it is.
    pub fn check(self, current: Option<&NewGoods>, rules: &DraftRules, now: Timestamp) -> Result<NewGoods, DraftError> {
        let wrong = |field, expected| Err(DraftError::Wrong { field, expected });
        let missing = DraftError::Missing;
        let title = self.title.or_else(|| current.map(|goods| goods.title.clone())).ok_or(missing("title"))?;
        let start_price = self.start_price.or(current.map(|goods| goods.start_price)).ok_or(missing("start_price"))?;
        if title.trim().is_empty() || title.chars().count() > 256 {
            return wrong("title", "1 to 256 characters, not only spaces");
        }
        let category = self.category.or_else(|| current.map(|goods| goods.category.clone()));
        // The origin's default category.
        let category = category.unwrap_or_else(|| "기타".to_owned());
        if category.chars().count() > 64 {
            return wrong("category", "at most 64 characters");
        }
        let current_duration = current.map(|goods| goods.ends_at.ms_since(goods.starts_at));
        let duration_ms = match self.duration_s {
            Some(seconds) if !(1..=MAX_DURATION_S).contains(&seconds) => {
                return wrong("duration_s", "whole seconds, 1 to 2592000");
            }
            Some(seconds) => seconds * 1000,
            None => current_duration.unwrap_or(rules.duration_s * 1000),
        };
        let images = match self.images {
            Some(images) => pictures(&images)?,
            None => current.map(|goods| goods.images.clone()).unwrap_or_default(),
        };
        let starts_at = match self.start {
            Some(start) => {
                let expected = "a valid time: starts_at in RFC 3339, or start_date YYYY-MM-DD with start_time HH:MM";
                let (field, at) =
                    start.parse(rules.time_zone).map_err(|field| DraftError::Wrong { field, expected })?;
                let before = current.map(|goods| goods.starts_at);
                if before != Some(at) {
                    check_start(field, at, before, now)?;
                }
                at
            }
            None => current.map(|goods| goods.starts_at).ok_or(missing(StartInput::FIELDS))?,
        };
        Ok(NewGoods {
            title,
            content: self.content.or_else(|| current.map(|goods| goods.content.clone())).unwrap_or_default(),
            category,
            start_price,
            predict_price: self.predict_price.or(current.map(|goods| goods.predict_price)).unwrap_or(start_price),
            min_increment: self
                .min_increment
                .or(current.map(|goods| goods.min_increment))
                .unwrap_or(Price::from_stored(1)),
            starts_at,
            ends_at: starts_at.plus_ms(duration_ms),
            images,
        })
    }
}

/// Parses the pictures of goods.
fn pictures(images: &[String]) -> Result<Vec<String>, DraftError> {
    let parsed: Option<Vec<String>> = images.iter().map(|picture| parse_picture(picture)).collect();
    parsed.filter(|pictures| pictures.len() <= MAX_IMAGES).ok_or(DraftError::Wrong {
        field: "images",
        expected: "at most 20 pictures, each a relative path of 1 to 256 characters or an https URL",
    })
}

/// Whether the day alone is valid.
fn is_date(date: &str, tz: Tz) -> bool {
    Timestamp::parse_local(date, "12:00", tz).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft() -> GoodsDraft {
        GoodsDraft {
            title: Some("camera".into()),
            start_price: Some(Price::from_stored(1)),
            start: Some(StartInput::Instant("2026-11-22T08:00:00Z".into())),
            images: Some(vec!["/media/goods/a.png".into()]),
            ..GoodsDraft::default()
        }
    }

    const RULES: DraftRules = DraftRules { time_zone: chrono_tz::Asia::Seoul, duration_s: 1200 };

    fn now() -> Timestamp {
        Timestamp::parse_rfc3339("2026-11-22T08:00:00Z").unwrap()
    }

    #[test]
    fn defaults_fill_missing_fields() {
        let goods = draft().check(None, &RULES, now()).unwrap();
        assert_eq!((goods.ends_at.ms_since(goods.starts_at), goods.min_increment.won()), (1_200_000, 1));
        let local = StartInput::Local { date: "2026-11-22".into(), time: "17:00".into() };
        assert_eq!(GoodsDraft { start: Some(local), ..draft() }.check(None, &RULES, now()).unwrap().starts_at, now());
    }

    #[test]
    fn fault_15_wrong_fields_are_named() {
        let field = |draft: GoodsDraft| match draft.check(None, &RULES, now()) {
            Ok(_) => None,
            Err(DraftError::Wrong { field, .. } | DraftError::Missing(field)) => Some(field),
        };
        let titled = |title: String| GoodsDraft { title: Some(title), ..draft() };
        assert_eq!(field(titled(" ".into())), Some("title"));
        assert_eq!(field(titled("x".repeat(257))), Some("title"));
        assert_eq!(field(titled("가".repeat(256))), None, "characters, not bytes");
        assert_eq!(field(GoodsDraft { title: None, ..draft() }), Some("title"));
        assert_eq!(field(GoodsDraft { start_price: None, ..draft() }), Some("start_price"));
        assert_eq!(field(GoodsDraft { start: None, ..draft() }), Some(StartInput::FIELDS));
        assert_eq!(field(GoodsDraft { duration_s: Some(0), ..draft() }), Some("duration_s"));
        assert_eq!(field(GoodsDraft { duration_s: Some(2_592_001), ..draft() }), Some("duration_s"));
        let starting = |text: &str| GoodsDraft { start: Some(StartInput::Instant(text.into())), ..draft() };
        for start in ["2026-11-22T07:58:59Z", "9999-01-01T00:00:00Z", "soon"] {
            assert_eq!(field(starting(start)), Some("starts_at"));
        }
        assert_eq!(field(starting("2026-11-22T07:59:01Z")), None);
        for path in ["http://x/a.png", "//x/a.png", "javascript:1", "/media/../../etc/passwd", "", "a\nb"] {
            assert_eq!(field(GoodsDraft { images: Some(vec![path.into()]), ..draft() }), Some("images"), "{path:?}");
        }
        assert_eq!(field(GoodsDraft { images: Some(vec!["/a".into(); 21]), ..draft() }), Some("images"));
    }

    #[test]
    fn what_is_left_out_or_stays_the_same_is_neither_changed_nor_refused() {
        let made = GoodsDraft { duration_s: Some(600), ..draft() }.check(None, &RULES, now()).unwrap();
        let later = now().plus_ms(3_600_000);
        let same = draft().check(Some(&made), &RULES, later).unwrap();
        assert_eq!(same, made, "a start in the past, but the same");
        assert_eq!(same.differences(&made), Vec::<&str>::new());
        assert_eq!(GoodsDraft::default().check(Some(&made), &RULES, later).unwrap(), made);
        let start = Some(StartInput::Instant("2026-11-22T09:30:00Z".into()));
        let moved = GoodsDraft { start, title: Some("tripod".into()), ..GoodsDraft::default() };
        let moved = moved.check(Some(&made), &RULES, later).unwrap();
        assert_eq!(moved.differences(&made), ["title", "starts_at"], "the length stays");
    }

    #[test]
    fn a_live_auction_keeps_its_terms_and_an_ended_one_everything() {
        let scheduled = GoodsState { phase: Phase::Scheduled, ..GoodsState::live() };
        let before = scheduled.starts_at.plus_ms(-1);
        let of = |goods: &GoodsState, fields: &[&str], at| UpdateRefusal::of(goods, fields, at);
        assert_eq!(of(&scheduled, &["start_price", "seller_id"], before), None);
        assert_eq!(of(&scheduled, &["start_price"], scheduled.starts_at), Some(UpdateRefusal::Started), "it is due");
        let live = GoodsState::live();
        let at = live.starts_at;
        assert_eq!(of(&live, &DESCRIPTION, at), None);
        assert_eq!(of(&live, &["title", "min_increment"], at), Some(UpdateRefusal::Started));
        assert_eq!(of(&live, &["title"], live.ends_at), Some(UpdateRefusal::Ended), "its end is due");
        let ended = GoodsState { phase: Phase::Ended, ..GoodsState::live() };
        assert_eq!(of(&ended, &["title"], at), Some(UpdateRefusal::Ended));
        assert_eq!(of(&ended, &[], at), None);
    }

    #[test]
    fn an_external_id_has_1_to_128_characters() {
        for id in ["a", "가/나 ?", &"x".repeat(128)] {
            assert_eq!(ExternalId::parse(id).as_ref().map(ExternalId::as_str), Some(id));
        }
        for id in ["", "a\nb", "\0", &"x".repeat(129)] {
            assert_eq!(ExternalId::parse(id), None, "{id:?}");
        }
    }
}
