SET lock_timeout = '5s';

DROP TABLE revisions;
DROP TABLE environments;
DROP TABLE installation;
