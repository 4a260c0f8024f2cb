SET lock_timeout = '5s';

DROP TABLE propagation_keys;
DROP TABLE api_keys;
