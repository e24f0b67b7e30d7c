DROP INDEX likes_removed;
