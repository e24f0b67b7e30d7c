//! Instants in UTC, and the local times that the origin's web client shows. Nothing here reads a clock.

use chrono::{DateTime, NaiveDate, NaiveTime, TimeZone, Timelike, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

/// An instant in UTC, in whole microseconds since 1970, which is what both database engines store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ToSchema)]
#[schema(description = "An instant in UTC, in milliseconds", value_type = String, format = DateTime, example = "2026-11-22T08:30:00.000Z")]
pub struct Timestamp(i64);

/// The first and the last instant that RFC 3339 can write: years 1 to 9999, four digits.
const EARLIEST_MICROS: i64 = -62_135_596_800_000_000;
const LATEST_MICROS: i64 = 253_402_300_799_999_999;

impl Timestamp {
    /// From microseconds since 1970, clamped to the years that RFC 3339 can write.
    pub const fn from_micros(micros: i64) -> Self {
        if micros < EARLIEST_MICROS {
            Self(EARLIEST_MICROS)
        } else if micros > LATEST_MICROS {
            Self(LATEST_MICROS)
        } else {
            Self(micros)
        }
    }

    /// From whole seconds since 1970.
    #[cfg(any(test, feature = "test-support"))]
    pub const fn from_secs(secs: i64) -> Self {
        Self::from_micros(secs.saturating_mul(1_000_000))
    }

    /// From a `chrono` instant, truncated to microseconds.
    pub fn from_chrono(at: DateTime<Utc>) -> Self {
        Self::from_micros(at.timestamp_micros())
    }

    /// Microseconds since 1970.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since 1970, rounded down.
    pub const fn secs(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// The instant `ms` milliseconds later; earlier if `ms` is negative.
    pub const fn plus_ms(self, ms: i64) -> Self {
        Self::from_micros(self.0.saturating_add(ms.saturating_mul(1000)))
    }

    /// Milliseconds from `earlier` to this instant, truncated; negative if `earlier` is later.
    pub const fn ms_since(self, earlier: Timestamp) -> i64 {
        (self.0 - earlier.0) / 1000
    }

    /// Parses RFC 3339 with any offset (`2026-11-22T17:29:00Z`, `…+09:00`); `None` for any other text.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        DateTime::parse_from_rfc3339(text).ok().map(|at| Self::from_chrono(at.with_timezone(&Utc)))
    }

    /// Parses the origin's `start_date` and `start_time`, local to `tz`. `9:05` and `09:05:00` are valid times too: the
    /// origin compared texts, so an auction at `9:05` never started (fault 12). `None` for any other text, and for a
    /// time that the zone skips; of a time that occurs twice, the first is taken.
    pub fn parse_local(date: &str, time: &str, tz: Tz) -> Option<Self> {
        let date = NaiveDate::parse_from_str(date, "%Y-%m-%d").ok()?;
        let time =
            NaiveTime::parse_from_str(time, "%H:%M").or_else(|_| NaiveTime::parse_from_str(time, "%H:%M:%S")).ok()?;
        let local = tz.from_local_datetime(&date.and_time(time)).earliest()?;
        Some(Self::from_chrono(local.with_timezone(&Utc)))
    }

    /// RFC 3339 in UTC, truncated to milliseconds: `2026-11-22T08:29:27.865Z`.
    pub fn rfc3339(self) -> String {
        self.utc().format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
    }

    /// The local time in `tz`, for the origin's client.
    pub fn local(self, tz: Tz) -> LocalTime {
        LocalTime(self.utc().with_timezone(&tz))
    }

    fn utc(self) -> DateTime<Utc> {
        // Clamped in every constructor to years 1 to 9999, which chrono can always hold.
        DateTime::from_timestamp_micros(self.0).unwrap_or_default()
    }
}

/// In JSON an RFC 3339 text, truncated to milliseconds; on the bus the exact microseconds.
impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&self.rfc3339())
        } else {
            serializer.serialize_i64(self.0)
        }
    }
}

/// Reads the bus format. No JSON with a timestamp is read this way.
impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        i64::deserialize(deserializer).map(Self::from_micros)
    }
}

/// An instant in the marketplace's time zone, with the formats of the origin.
pub struct LocalTime(DateTime<Tz>);

impl LocalTime {
    /// The day: `2026-11-22`.
    pub fn date(&self) -> String {
        self.0.format("%Y-%m-%d").to_string()
    }

    /// The minute: `17:29`.
    pub fn minute(&self) -> String {
        self.0.format("%H:%M").to_string()
    }

    /// `2026-11-22T17:29:27.865026`: six digits and no zone, because the web client cuts off the last seven characters.
    pub fn micros(&self) -> String {
        self.0.format("%Y-%m-%dT%H:%M:%S%.6f").to_string()
    }

    /// `오후 05:25`: morning (오전) or afternoon (오후), then the zero-padded 12-hour time.
    pub fn twelve_hour(&self) -> String {
        let (is_pm, hour) = self.0.hour12();
        format!("{} {hour:02}:{:02}", if is_pm { "오후" } else { "오전" }, self.0.minute())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono_tz::Asia::Seoul;

    #[test]
    fn times_are_truncated_never_rounded() {
        let at = Timestamp::from_micros(1_795_336_167_865_999);
        assert_eq!(at.rfc3339(), "2026-11-22T08:29:27.865Z");
        assert_eq!(at.local(Seoul).micros(), "2026-11-22T17:29:27.865999");
        assert_eq!((at.local(Seoul).date(), at.local(Seoul).minute()), ("2026-11-22".into(), "17:29".into()));
    }

    #[test]
    fn the_12_hour_time_begins_with_morning_or_afternoon() {
        let at = |time| Timestamp::parse_local("2026-11-22", time, Seoul).unwrap().local(Seoul).twelve_hour();
        assert_eq!([at("17:25"), at("0:05"), at("12:00")], ["오후 05:25", "오전 12:05", "오후 12:00"]);
    }

    #[test]
    fn fault_12_a_start_time_without_leading_zero_is_a_time() {
        let nine = Timestamp::parse_local("2026-11-22", "9:05", Seoul);
        assert_eq!(nine, Timestamp::parse_local("2026-11-22", "09:05:00", Seoul));
        assert_eq!(nine.map(Timestamp::rfc3339).as_deref(), Some("2026-11-22T00:05:00.000Z"));
    }

    #[test]
    fn invalid_times_are_refused() {
        for (date, time) in [
            ("2026-02-30", "10:00"),
            ("2026-11-22", "24:00"),
            ("", ""),
            ("22.11.2026", "10:00"),
            ("2026-11-22", "-1:00"),
        ] {
            assert_eq!(Timestamp::parse_local(date, time, Seoul), None, "{date} {time}");
        }
        assert_eq!(Timestamp::parse_rfc3339("2026-11-22"), None);
        assert_eq!(
            Timestamp::parse_rfc3339("2026-11-22T17:00:00+09:00"),
            Timestamp::parse_rfc3339("2026-11-22T08:00:00Z")
        );
    }

    #[test]
    fn instants_beyond_the_calendar_are_clamped() {
        assert_eq!(Timestamp::from_micros(i64::MAX).rfc3339(), "9999-12-31T23:59:59.999Z");
        assert_eq!(Timestamp::from_secs(i64::MIN).rfc3339(), "0001-01-01T00:00:00.000Z");
    }
}
