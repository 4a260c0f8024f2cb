SET lock_timeout = '5s';

DROP TABLE lost_revisions;
ALTER TABLE installation DROP COLUMN lineage;
DROP FUNCTION guidon_lineage();
