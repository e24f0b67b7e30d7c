-- The whole schema, the same as that of the SQLite migrations 1 to 6, where each column is explained. Instants are
-- microseconds since 1970 in UTC, money is whole won. Rows that every bid changes leave room on their pages.

CREATE TABLE id_counters (
    one           INTEGER PRIMARY KEY CHECK (one = 1),
    goods         BIGINT NOT NULL,
    bid           BIGINT NOT NULL,
    alarm         BIGINT NOT NULL,
    trade_room    BIGINT NOT NULL,
    like_mark     BIGINT NOT NULL,
    line          BIGINT NOT NULL,
    trade_message BIGINT NOT NULL
) WITH (fillfactor = 10);
INSERT INTO id_counters VALUES (1, 0, 0, 0, 0, 0, 0, 0);

CREATE TABLE writer_marks (
    writer   BIGINT PRIMARY KEY,
    mark     BIGINT NOT NULL,
    begun_at BIGINT NOT NULL
) WITH (fillfactor = 10);

CREATE TABLE users (
    id             BIGINT PRIMARY KEY,
    username       TEXT NOT NULL,
    profile_image  TEXT NOT NULL,
    rating_score   INTEGER NOT NULL,
    is_active      BOOLEAN NOT NULL,
    named_at       BIGINT NOT NULL,
    received_up_to BIGINT NOT NULL DEFAULT 0,
    read_up_to     BIGINT NOT NULL DEFAULT 0
) WITH (fillfactor = 80);

CREATE TABLE goods (
    id               BIGINT PRIMARY KEY,
    seller_id        BIGINT NOT NULL,
    title            TEXT NOT NULL,
    content          TEXT NOT NULL,
    category         TEXT NOT NULL,
    start_price      BIGINT NOT NULL,
    predict_price    BIGINT NOT NULL,
    min_increment    BIGINT NOT NULL,
    starts_at        BIGINT NOT NULL,
    ends_at          BIGINT NOT NULL,
    created_at       BIGINT NOT NULL,
    phase            SMALLINT NOT NULL,
    high_price       BIGINT,
    high_bidder_id   BIGINT,
    bid_seq          BIGINT NOT NULL,
    ending_soon_done BOOLEAN NOT NULL,
    trade_room_id    BIGINT,
    like_count       BIGINT NOT NULL DEFAULT 0
) WITH (fillfactor = 60);
CREATE INDEX goods_by_start ON goods (phase, starts_at);
CREATE INDEX goods_by_end ON goods (phase, ends_at);
CREATE INDEX goods_by_seller ON goods (seller_id, id);
CREATE INDEX goods_by_category ON goods (category, id);
CREATE INDEX goods_by_phase ON goods (phase, id);
CREATE INDEX goods_by_seller_phase ON goods (seller_id, phase, id);
CREATE INDEX goods_by_category_phase ON goods (category, phase, id);

CREATE TABLE goods_images (
    goods_id BIGINT NOT NULL,
    position INTEGER NOT NULL,
    path     TEXT NOT NULL,
    PRIMARY KEY (goods_id, position)
);

CREATE TABLE bids (
    id         BIGINT PRIMARY KEY,
    goods_id   BIGINT NOT NULL,
    seq        BIGINT NOT NULL,
    user_id    BIGINT NOT NULL,
    price      BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX bids_by_seq ON bids (goods_id, seq);
CREATE INDEX bids_by_bidder ON bids (goods_id, user_id, seq);

CREATE TABLE likes (
    id       BIGINT PRIMARY KEY,
    goods_id BIGINT NOT NULL,
    user_id  BIGINT NOT NULL,
    removed  BOOLEAN NOT NULL
);
CREATE INDEX likes_by_goods ON likes (goods_id, user_id);
CREATE UNIQUE INDEX likes_once ON likes (goods_id, user_id) WHERE NOT removed;
CREATE INDEX likes_by_user ON likes (user_id, goods_id) WHERE NOT removed;

CREATE TABLE trade_rooms (
    id              BIGINT PRIMARY KEY,
    goods_id        BIGINT NOT NULL UNIQUE,
    seller_id       BIGINT NOT NULL,
    buyer_id        BIGINT NOT NULL,
    created_at      BIGINT NOT NULL,
    last_message_id BIGINT,
    active_at       BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX trade_rooms_by_seller ON trade_rooms (seller_id, active_at);
CREATE INDEX trade_rooms_by_buyer ON trade_rooms (buyer_id, active_at);

CREATE TABLE room_lines (
    id         BIGINT PRIMARY KEY,
    goods_id   BIGINT NOT NULL,
    author_id  BIGINT NOT NULL,
    content    TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX room_lines_by_goods ON room_lines (goods_id, id);

CREATE TABLE trade_messages (
    id         BIGINT PRIMARY KEY,
    goods_id   BIGINT NOT NULL,
    author_id  BIGINT NOT NULL,
    content    TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    is_read    BOOLEAN NOT NULL
);
CREATE INDEX trade_messages_by_goods ON trade_messages (goods_id, id);
CREATE INDEX trade_messages_unread ON trade_messages (goods_id, author_id) WHERE NOT is_read;

CREATE TABLE alarms (
    id            BIGINT PRIMARY KEY,
    event_id      BIGINT NOT NULL,
    kind          TEXT NOT NULL,
    goods_id      BIGINT,
    goods_title   TEXT,
    created_at    BIGINT NOT NULL,
    high_price    BIGINT,
    ends_at       BIGINT,
    start_price   BIGINT,
    trade_room_id BIGINT,
    bid_seq       BIGINT,
    message       TEXT,
    sender_id     BIGINT,
    sender_name   TEXT
);

CREATE TABLE inbox (
    user_id  BIGINT NOT NULL,
    alarm_id BIGINT NOT NULL,
    is_read  BOOLEAN NOT NULL,
    muted    BOOLEAN NOT NULL DEFAULT FALSE,
    PRIMARY KEY (user_id, alarm_id)
);

CREATE TABLE fanouts (
    event_id      BIGINT PRIMARY KEY,
    goods_id      BIGINT NOT NULL,
    max_like      BIGINT NOT NULL,
    max_bid_seq   BIGINT NOT NULL,
    after_user_id BIGINT NOT NULL
);
CREATE INDEX fanouts_by_goods ON fanouts (goods_id);

CREATE TABLE mutes (
    kind    TEXT NOT NULL,
    user_id BIGINT NOT NULL,
    PRIMARY KEY (kind, user_id)
);

CREATE TABLE idempotency_keys (
    user_id     BIGINT NOT NULL,
    key         TEXT NOT NULL,
    goods_id    BIGINT NOT NULL,
    price       BIGINT NOT NULL,
    verdict     TEXT NOT NULL,
    received_at BIGINT NOT NULL,
    bid_id      BIGINT,
    seq         BIGINT,
    ends_at     BIGINT,
    high_price  BIGINT,
    minimum     BIGINT,
    created_at  BIGINT NOT NULL,
    PRIMARY KEY (user_id, key)
);
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);

CREATE TABLE probe (
    one     INTEGER PRIMARY KEY CHECK (one = 1),
    padding TEXT NOT NULL
);
INSERT INTO probe VALUES (1, '');
