ALTER TABLE goods DROP COLUMN cancelled;
DROP TABLE audit;
