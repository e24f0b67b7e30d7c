-- Lines of rooms that are gone for everybody. Ids are of the same series as those of lines, so that a node that has
-- missed a removal finds it behind the last line that it has.
CREATE TABLE line_removals (
    id       INTEGER PRIMARY KEY NOT NULL,
    goods_id BIGINT NOT NULL,
    line_id  BIGINT NOT NULL
);
CREATE INDEX line_removals_by_goods ON line_removals (goods_id, id);

-- Users who are being erased. A row stays until everything that was under way at its beginning is gone too.
CREATE TABLE erasures (
    user_id  INTEGER PRIMARY KEY NOT NULL,
    begun_at BIGINT NOT NULL
);

-- What somebody has written, to export or erase it.
CREATE INDEX room_lines_by_author ON room_lines (author_id, id);
CREATE INDEX trade_messages_by_author ON trade_messages (author_id, id);
CREATE INDEX alarms_by_sender ON alarms (sender_id, id) WHERE sender_id IS NOT NULL;
