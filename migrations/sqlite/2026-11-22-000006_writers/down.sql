DROP TABLE writer_marks;
