-- The id that the marketplace's backend has for goods; and the end that an auction was set up with, which late bids do not
-- move (NULL, of goods that an older version made: `ends_at`).
ALTER TABLE goods ADD COLUMN external_id TEXT;
ALTER TABLE goods ADD COLUMN scheduled_ends_at BIGINT;
CREATE UNIQUE INDEX goods_by_external_id ON goods (external_id) WHERE external_id IS NOT NULL;
