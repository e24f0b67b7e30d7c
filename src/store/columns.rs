//! Types of the domain as columns that diesel reads.

use diesel::{
    backend::Backend,
    deserialize::{self, FromSql, Queryable},
    sql_types::{BigInt, SingleValue, SmallInt, Text},
};

use super::{StoreError, reads::FieldList, rows::phase_of};
use crate::domain::{
    AlarmCursor, AlarmId, BidSeq, EventId, GoodsId, LineId, LineText, Locale, Phase, Timestamp, TradeMessageId,
    TradeText, UserId,
};

macro_rules! column {
    ($name:ty: $raw:ty as $sql:ty, $convert:expr) => {
        impl<DB: Backend> FromSql<$sql, DB> for $name
        where
            $raw: FromSql<$sql, DB>,
        {
            fn from_sql(bytes: DB::RawValue<'_>) -> deserialize::Result<Self> {
                let convert: fn($raw) -> Result<Self, StoreError> = $convert;
                Ok(convert(<$raw>::from_sql(bytes)?)?)
            }
        }

        impl<ST: SingleValue, DB: Backend> Queryable<ST, DB> for $name
        where
            Self: FromSql<ST, DB>,
        {
            type Row = Self;

            fn build(row: Self) -> deserialize::Result<Self> {
                Ok(row)
            }
        }
    };
}

column!(AlarmCursor: i64 as BigInt, |number| Ok(Self::from_number(number)));
column!(AlarmId: i64 as BigInt, |id| Ok(Self::from_stored(id)));
column!(BidSeq: i64 as BigInt, |seq| Ok(Self::from_stored(seq)));
column!(EventId: i64 as BigInt, |id| Ok(Self::from_stored(id)));
column!(GoodsId: i64 as BigInt, |id| Ok(Self::from_stored(id)));
column!(LineId: i64 as BigInt, |id| Ok(Self::from_stored(id)));
column!(TradeMessageId: i64 as BigInt, |id| Ok(Self::from_stored(id)));
column!(UserId: i64 as BigInt, |id| Ok(Self::from_stored(id)));
column!(Timestamp: i64 as BigInt, |micros| Ok(Self::from_micros(micros)));
column!(Phase: i16 as SmallInt, phase_of);
column!(FieldList: String as Text, |text| Ok(Self::parse(&text)));
column!(Locale: String as Text, |name| Self::from_name(&name).ok_or(StoreError::Row("users.locale")));
column!(LineText: String as Text, |text| Self::parse(&text).ok_or(StoreError::Row("room_lines.content")));
column!(TradeText: String as Text, |text| Self::parse(&text).ok_or(StoreError::Row("trade_messages.content")));
