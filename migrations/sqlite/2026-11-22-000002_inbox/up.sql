-- The inbox complete: read state, preferences, what no longer holds; and answers kept under their idempotency keys.

-- Every alarm up to this id is read: one number instead of a write per alarm. Single ones are marked in `inbox`.
ALTER TABLE users ADD COLUMN read_up_to BIGINT NOT NULL DEFAULT 0;

-- Of an `outbid`: the bid that took the lead. The alarm no longer holds when its receiver has bid again since, or the
-- auction has ended; that is seen when it is read and costs a bid nothing.
ALTER TABLE alarms ADD COLUMN bid_seq BIGINT;
DROP INDEX bids_by_bidder;
CREATE INDEX bids_by_bidder ON bids (goods_id, user_id, seq);

-- Stored as read and never sent, because its receiver had muted its kind.
ALTER TABLE inbox ADD COLUMN muted BOOLEAN NOT NULL DEFAULT FALSE;

CREATE TABLE mutes (
    kind    TEXT NOT NULL,
    user_id BIGINT NOT NULL,
    PRIMARY KEY (kind, user_id)
) WITHOUT ROWID;

-- The first answer to a bid under a user's key.
CREATE TABLE idempotency_keys (
    user_id     BIGINT NOT NULL,
    key         TEXT NOT NULL,
    goods_id    BIGINT NOT NULL,
    price       BIGINT NOT NULL,
    -- accepted, seller_cannot_bid, auction_not_started, auction_ended, bid_too_low
    verdict     TEXT NOT NULL,
    received_at BIGINT NOT NULL,
    bid_id      BIGINT,
    seq         BIGINT,
    ends_at     BIGINT,
    high_price  BIGINT,
    minimum     BIGINT,
    created_at  BIGINT NOT NULL,
    PRIMARY KEY (user_id, key)
) WITHOUT ROWID;
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);
