-- Auction rooms, trade rooms, and what the lists of goods need to be read in a fixed number of statements.

ALTER TABLE id_counters ADD COLUMN line BIGINT NOT NULL DEFAULT 0;
ALTER TABLE id_counters ADD COLUMN trade_message BIGINT NOT NULL DEFAULT 0;

-- What is said in an auction room.
CREATE TABLE room_lines (
    id         INTEGER PRIMARY KEY NOT NULL,
    goods_id   BIGINT NOT NULL,
    author_id  BIGINT NOT NULL,
    content    TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX room_lines_by_goods ON room_lines (goods_id, id);

-- What seller and buyer write to each other.
CREATE TABLE trade_messages (
    id         INTEGER PRIMARY KEY NOT NULL,
    goods_id   BIGINT NOT NULL,
    author_id  BIGINT NOT NULL,
    content    TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    -- by the other side
    is_read    BOOLEAN NOT NULL
);
CREATE INDEX trade_messages_by_goods ON trade_messages (goods_id, id);
CREATE INDEX trade_messages_unread ON trade_messages (goods_id, author_id) WHERE NOT is_read;

ALTER TABLE trade_rooms ADD COLUMN last_message_id BIGINT;
-- when the room was opened, or the last message stored
ALTER TABLE trade_rooms ADD COLUMN active_at BIGINT NOT NULL DEFAULT 0;
UPDATE trade_rooms SET active_at = created_at;
CREATE INDEX trade_rooms_by_seller ON trade_rooms (seller_id, active_at);
CREATE INDEX trade_rooms_by_buyer ON trade_rooms (buyer_id, active_at);

-- Of a `chat`: the message and its author as he was called then.
ALTER TABLE alarms ADD COLUMN message TEXT;
ALTER TABLE alarms ADD COLUMN sender_id BIGINT;
ALTER TABLE alarms ADD COLUMN sender_name TEXT;

ALTER TABLE goods ADD COLUMN like_count BIGINT NOT NULL DEFAULT 0;
UPDATE goods SET like_count = (SELECT COUNT(*) FROM likes WHERE likes.goods_id = goods.id AND NOT likes.removed);
CREATE INDEX goods_by_seller ON goods (seller_id, id);
CREATE INDEX goods_by_category ON goods (category, id);
CREATE INDEX goods_by_phase ON goods (phase, id);
CREATE INDEX likes_by_user ON likes (user_id, goods_id) WHERE NOT removed;
