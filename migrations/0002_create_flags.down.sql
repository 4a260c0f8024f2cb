SET lock_timeout = '5s';

DROP TABLE flag_versions;
DROP TABLE flags;
DROP TABLE projects;
