-- The language of a user's texts; NULL: that of `alarms.locale`.
ALTER TABLE users ADD COLUMN locale TEXT;
