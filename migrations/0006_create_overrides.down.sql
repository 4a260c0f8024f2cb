SET lock_timeout = '5s';

DROP TABLE overrides;
DROP TABLE override_keys;
