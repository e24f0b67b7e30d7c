-- Notices, which the marketplace's backend raises for users of its choice, and which users got an alarm.

-- Users, ascending with commas between: of goods, who gets it besides likers and bidders; without goods (`goods_id` 0), the
-- whole audience, or everybody if NULL.
ALTER TABLE fanouts ADD COLUMN user_ids TEXT;
-- Fan-outs with the same key are done one after another, so that the newest alarm comes last to everybody.
ALTER TABLE fanouts ADD COLUMN collapse_key TEXT;

-- Stands at the newest alarm with this key in the inbox. The next one takes it over, and supersedes this if it is unread.
ALTER TABLE inbox ADD COLUMN collapse_key TEXT;
ALTER TABLE inbox ADD COLUMN superseded BOOLEAN NOT NULL DEFAULT FALSE;
CREATE INDEX inbox_by_collapse_key ON inbox (collapse_key, user_id) WHERE collapse_key IS NOT NULL;

-- Whose inboxes got the alarm, ascending with commas between (NULL: nobody), and the last of them. With an index of
-- `inbox` by alarm, each delivery would write to that index too.
ALTER TABLE alarms ADD COLUMN receivers TEXT;
ALTER TABLE alarms ADD COLUMN last_receiver BIGINT;
-- when it was stored, if that is not `created_at`: the later chunks of a fan-out
ALTER TABLE alarms ADD COLUMN stored_at BIGINT;
UPDATE alarms SET receivers = kept.users, last_receiver = kept.last
    FROM (SELECT alarm_id, group_concat(user_id, ',' ORDER BY user_id) AS users, max(user_id) AS last
        FROM inbox GROUP BY alarm_id) AS kept
    WHERE kept.alarm_id = alarms.id;
-- The later chunks of fan-outs, whose users ascend. All other alarms have the id of their event.
CREATE INDEX alarms_later_chunks ON alarms (event_id, last_receiver) WHERE event_id <> id;
