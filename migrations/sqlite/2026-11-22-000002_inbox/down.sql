DROP TABLE idempotency_keys;
DROP TABLE mutes;
ALTER TABLE inbox DROP COLUMN muted;
DROP INDEX bids_by_bidder;
CREATE INDEX bids_by_bidder ON bids (goods_id, user_id);
ALTER TABLE alarms DROP COLUMN bid_seq;
ALTER TABLE users DROP COLUMN read_up_to;
