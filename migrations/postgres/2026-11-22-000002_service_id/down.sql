DROP TABLE service;
