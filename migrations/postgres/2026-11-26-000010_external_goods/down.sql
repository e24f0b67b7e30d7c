DROP INDEX goods_by_external_id;
ALTER TABLE goods DROP COLUMN scheduled_ends_at;
ALTER TABLE goods DROP COLUMN external_id;
