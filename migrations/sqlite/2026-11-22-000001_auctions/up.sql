-- Auctions, bids, alarms. Instants are microseconds since 1970 in UTC, money is whole won.
-- No foreign keys: everything is written by one writer (the ledger), whose transactions hold the relations,
-- and a check per inserted bid would be paid by every bidder.

-- Ids of rows that more than one table or a client refers to. Taken inside the transaction that uses them,
-- so ids rise in commit order and are never used twice, not even after a delete.
CREATE TABLE id_counters (
    one        INTEGER PRIMARY KEY CHECK (one = 1) NOT NULL,
    goods      BIGINT NOT NULL,
    bid        BIGINT NOT NULL,
    alarm      BIGINT NOT NULL,
    trade_room BIGINT NOT NULL,
    like_mark  BIGINT NOT NULL
);
INSERT INTO id_counters VALUES (1, 0, 0, 0, 0, 0);

CREATE TABLE users (
    id             INTEGER PRIMARY KEY NOT NULL,
    username       TEXT NOT NULL,
    profile_image  TEXT NOT NULL,
    rating_score   INTEGER NOT NULL,
    is_active      BOOLEAN NOT NULL,
    -- `iat` of the token that set the name
    named_at       BIGINT NOT NULL,
    -- high-water mark: every alarm up to this id is known to have reached the user
    received_up_to BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE goods (
    id               INTEGER PRIMARY KEY NOT NULL,
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
    -- 0 scheduled, 1 live, 2 ended
    phase            SMALLINT NOT NULL,
    high_price       BIGINT,
    high_bidder_id   BIGINT,
    bid_seq          BIGINT NOT NULL,
    ending_soon_done BOOLEAN NOT NULL,
    trade_room_id    BIGINT
);
CREATE INDEX goods_by_start ON goods (phase, starts_at);
CREATE INDEX goods_by_end ON goods (phase, ends_at);

CREATE TABLE goods_images (
    goods_id BIGINT NOT NULL,
    position INTEGER NOT NULL,
    path     TEXT NOT NULL,
    PRIMARY KEY (goods_id, position)
) WITHOUT ROWID;

CREATE TABLE bids (
    id         INTEGER PRIMARY KEY NOT NULL,
    goods_id   BIGINT NOT NULL,
    seq        BIGINT NOT NULL,
    user_id    BIGINT NOT NULL,
    price      BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX bids_by_seq ON bids (goods_id, seq);
CREATE INDEX bids_by_bidder ON bids (goods_id, user_id);

-- A like that is taken back while a fan-out of its goods is under way stays, marked, until the fan-out is
-- done: the audience is those who liked the goods at that moment.
CREATE TABLE likes (
    id       INTEGER PRIMARY KEY NOT NULL,
    goods_id BIGINT NOT NULL,
    user_id  BIGINT NOT NULL,
    removed  BOOLEAN NOT NULL
);
CREATE INDEX likes_by_goods ON likes (goods_id, user_id);
CREATE UNIQUE INDEX likes_once ON likes (goods_id, user_id) WHERE NOT removed;

CREATE TABLE trade_rooms (
    id         INTEGER PRIMARY KEY NOT NULL,
    goods_id   BIGINT NOT NULL UNIQUE,
    seller_id  BIGINT NOT NULL,
    buyer_id   BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);

-- One payload for all its receivers.
CREATE TABLE alarms (
    id            INTEGER PRIMARY KEY NOT NULL,
    -- id of the first alarm of the same event: the chunks of a large fan-out share it
    event_id      BIGINT NOT NULL,
    kind          TEXT NOT NULL,
    goods_id      BIGINT,
    goods_title   TEXT,
    created_at    BIGINT NOT NULL,
    high_price    BIGINT,
    ends_at       BIGINT,
    start_price   BIGINT,
    trade_room_id BIGINT
);

CREATE TABLE inbox (
    user_id  BIGINT NOT NULL,
    alarm_id BIGINT NOT NULL,
    is_read  BOOLEAN NOT NULL,
    PRIMARY KEY (user_id, alarm_id)
) WITHOUT ROWID;

-- Large audiences that are not yet all served: continued after every restart.
CREATE TABLE fanouts (
    event_id      INTEGER PRIMARY KEY NOT NULL,
    goods_id      BIGINT NOT NULL,
    -- the audience: likes up to this mark, and bidders up to this bid (0: none)
    max_like      BIGINT NOT NULL,
    max_bid_seq   BIGINT NOT NULL,
    -- everybody up to this user id has his inbox row
    after_user_id BIGINT NOT NULL
);
CREATE INDEX fanouts_by_goods ON fanouts (goods_id);
