//! The tables as diesel's query builder knows them. `migrations/` creates and describes them.

diesel::table! {
    id_counters (one) {
        one -> Integer,
        goods -> BigInt,
        bid -> BigInt,
        alarm -> BigInt,
        trade_room -> BigInt,
        like_mark -> BigInt,
        line -> BigInt,
        trade_message -> BigInt,
    }
}

diesel::table! {
    writer_marks (writer) {
        writer -> BigInt,
        mark -> BigInt,
        begun_at -> BigInt,
    }
}

diesel::table! {
    users (id) {
        id -> BigInt,
        username -> Text,
        profile_image -> Text,
        rating_score -> Integer,
        is_active -> Bool,
        named_at -> BigInt,
        received_up_to -> BigInt,
        read_up_to -> BigInt,
        locale -> Nullable<Text>,
    }
}

diesel::table! {
    goods (id) {
        id -> BigInt,
        seller_id -> BigInt,
        title -> Text,
        content -> Text,
        category -> Text,
        start_price -> BigInt,
        predict_price -> BigInt,
        min_increment -> BigInt,
        starts_at -> BigInt,
        ends_at -> BigInt,
        created_at -> BigInt,
        phase -> SmallInt,
        high_price -> Nullable<BigInt>,
        high_bidder_id -> Nullable<BigInt>,
        bid_seq -> BigInt,
        ending_soon_done -> Bool,
        trade_room_id -> Nullable<BigInt>,
        like_count -> BigInt,
        cancelled -> Bool,
        external_id -> Nullable<Text>,
        scheduled_ends_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    goods_images (goods_id, position) {
        goods_id -> BigInt,
        position -> Integer,
        path -> Text,
    }
}

diesel::table! {
    bidders (goods_id, user_id) {
        goods_id -> BigInt,
        user_id -> BigInt,
        first_seq -> BigInt,
        last_seq -> BigInt,
    }
}

diesel::table! {
    bids (id) {
        id -> BigInt,
        goods_id -> BigInt,
        seq -> BigInt,
        user_id -> BigInt,
        price -> BigInt,
        created_at -> BigInt,
    }
}

diesel::table! {
    likes (id) {
        id -> BigInt,
        goods_id -> BigInt,
        user_id -> BigInt,
        removed -> Bool,
    }
}

diesel::table! {
    trade_rooms (id) {
        id -> BigInt,
        goods_id -> BigInt,
        seller_id -> BigInt,
        buyer_id -> BigInt,
        created_at -> BigInt,
        last_message_id -> Nullable<BigInt>,
        active_at -> BigInt,
    }
}

diesel::table! {
    room_lines (id) {
        id -> BigInt,
        goods_id -> BigInt,
        author_id -> BigInt,
        content -> Text,
        created_at -> BigInt,
    }
}

diesel::table! {
    trade_messages (id) {
        id -> BigInt,
        goods_id -> BigInt,
        author_id -> BigInt,
        content -> Text,
        created_at -> BigInt,
        is_read -> Bool,
    }
}

diesel::table! {
    alarms (id) {
        id -> BigInt,
        event_id -> BigInt,
        kind -> Text,
        goods_id -> Nullable<BigInt>,
        goods_title -> Nullable<Text>,
        created_at -> BigInt,
        high_price -> Nullable<BigInt>,
        ends_at -> Nullable<BigInt>,
        start_price -> Nullable<BigInt>,
        trade_room_id -> Nullable<BigInt>,
        bid_seq -> Nullable<BigInt>,
        message -> Nullable<Text>,
        sender_id -> Nullable<BigInt>,
        sender_name -> Nullable<Text>,
        receivers -> Nullable<Text>,
        last_receiver -> Nullable<BigInt>,
        stored_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    inbox (user_id, alarm_id) {
        user_id -> BigInt,
        alarm_id -> BigInt,
        is_read -> Bool,
        muted -> Bool,
        collapse_key -> Nullable<Text>,
        superseded -> Bool,
    }
}

diesel::table! {
    fanouts (event_id) {
        event_id -> BigInt,
        goods_id -> BigInt,
        max_like -> BigInt,
        max_bid_seq -> BigInt,
        after_user_id -> BigInt,
        user_ids -> Nullable<Text>,
        collapse_key -> Nullable<Text>,
    }
}

diesel::table! {
    mutes (kind, user_id) {
        kind -> Text,
        user_id -> BigInt,
    }
}

diesel::table! {
    idempotency_keys (user_id, key) {
        user_id -> BigInt,
        key -> Text,
        goods_id -> BigInt,
        price -> BigInt,
        verdict -> Text,
        received_at -> BigInt,
        bid_id -> Nullable<BigInt>,
        seq -> Nullable<BigInt>,
        ends_at -> Nullable<BigInt>,
        high_price -> Nullable<BigInt>,
        minimum -> Nullable<BigInt>,
        created_at -> BigInt,
    }
}

diesel::table! {
    line_removals (id) {
        id -> BigInt,
        goods_id -> BigInt,
        line_id -> BigInt,
    }
}

diesel::table! {
    erasures (user_id) {
        user_id -> BigInt,
        begun_at -> BigInt,
    }
}

diesel::table! {
    audit (id) {
        id -> BigInt,
        created_at -> BigInt,
        admin_id -> BigInt,
        action -> Text,
        target -> Text,
        target_id -> BigInt,
        fields -> Text,
    }
}

diesel::table! {
    probe (one) {
        one -> Integer,
        padding -> Text,
    }
}

diesel::table! {
    stops (one) {
        one -> Integer,
        stopped_at -> BigInt,
    }
}

diesel::allow_tables_to_appear_in_same_query!(
    alarms,
    inbox,
    users,
    goods,
    bidders,
    bids,
    likes,
    room_lines,
    trade_rooms,
    trade_messages,
    id_counters
);
