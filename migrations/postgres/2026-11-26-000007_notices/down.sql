DROP INDEX alarms_later_chunks;
ALTER TABLE alarms DROP COLUMN stored_at;
ALTER TABLE alarms DROP COLUMN last_receiver;
ALTER TABLE alarms DROP COLUMN receivers;
DROP INDEX inbox_by_collapse_key;
ALTER TABLE inbox DROP COLUMN superseded;
ALTER TABLE inbox DROP COLUMN collapse_key;
ALTER TABLE fanouts DROP COLUMN collapse_key;
ALTER TABLE fanouts DROP COLUMN user_ids;
