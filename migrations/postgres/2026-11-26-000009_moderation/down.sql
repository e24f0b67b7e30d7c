DROP INDEX alarms_by_sender;
DROP INDEX trade_messages_by_author;
DROP INDEX room_lines_by_author;
DROP TABLE erasures;
DROP TABLE line_removals;
