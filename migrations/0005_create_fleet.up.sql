SET lock_timeout = '5s';

-- What each replica knows of the instances that are connected to it, for the
-- others to read: a compressed page for each environment, written every few
-- seconds however many instances there are. Worth nothing after a crash, so
-- it costs no WAL.
-- Bounded: a row per replica and environment; removed an hour after its last
-- heartbeat.
CREATE UNLOGGED TABLE fleet (
    replica     text COLLATE "C" NOT NULL,
    environment text COLLATE "C" NOT NULL,
    page        bytea       NOT NULL,
    seen_at     timestamptz NOT NULL,
    PRIMARY KEY (replica, environment)
) WITH (fillfactor = 50);
