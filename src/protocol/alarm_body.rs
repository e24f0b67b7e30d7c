//! The JSON of one alarm: the same on the alarm socket and in the inbox, where it also has `read`.

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::{Alarm, AlarmKind, Locale, Price, Timestamp};

/// One alarm as clients receive it (`docs/protocol.md#alarms`). Fields that its kind doesn't have are absent.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Alarm)]
pub(crate) struct AlarmBody<'a> {
    /// `alram`, or `chat_alram` for a trade message.
    #[schema(value_type = AlarmFrameType)]
    response_type: &'static str,
    id: i64,
    #[schema(value_type = AlarmKind)]
    kind: &'static str,
    message: &'a str,
    goods_id: Option<i64>,
    goods_title: Option<&'a str>,
    created_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    high_price: Option<Price>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ends_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_price: Option<Price>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trade_room_id: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sender: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sender_name: Option<&'a str>,
    /// True on an `outbid` that no longer holds, absent otherwise.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    superseded: bool,
    /// Present in the inbox only.
    #[serde(skip_serializing_if = "Option::is_none")]
    read: Option<bool>,
}

/// The `response_type` of an alarm.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[allow(dead_code)] // It stands for the texts above in schemas.
enum AlarmFrameType {
    Alram,
    ChatAlram,
}

impl<'a> AlarmBody<'a> {
    /// The alarm as a frame of the alarm socket.
    pub(crate) fn frame(alarm: &'a Alarm, superseded: bool, locale: Locale) -> Self {
        Self {
            response_type: match alarm.kind {
                AlarmKind::Chat => "chat_alram",
                _ => "alram",
            },
            id: alarm.id.get(),
            kind: alarm.kind.name(),
            message: alarm.message(locale),
            goods_id: alarm.goods.map(|goods| goods.get()),
            goods_title: alarm.goods_title.as_deref(),
            created_at: alarm.created_at,
            high_price: alarm.high_price,
            ends_at: alarm.ends_at,
            start_price: alarm.start_price,
            trade_room_id: alarm.trade_room.map(|room| room.get()),
            sender: alarm.sender.as_ref().map(|sender| sender.id.get()),
            sender_name: alarm.sender.as_ref().map(|sender| sender.name.as_str()),
            superseded,
            read: None,
        }
    }

    /// The alarm as a row of `GET /alarms`.
    pub(crate) fn row(alarm: &'a Alarm, read: bool, superseded: bool, locale: Locale) -> Self {
        Self { read: Some(read), ..Self::frame(alarm, superseded, locale) }
    }
}
