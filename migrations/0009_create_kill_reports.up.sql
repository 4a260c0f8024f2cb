SET lock_timeout = '5s';

-- How each kill went: what the fleet knows of it is gone when its instances and
-- servers are. Written every few seconds while a kill spreads, by whichever
-- server knows more than is there, and never for each instance.
-- Bounded: a row per revision that killed, and the newest thousand of an
-- environment.
CREATE TABLE kill_reports (
    environment text COLLATE "C" NOT NULL REFERENCES environments (name),
    revision    bigint      NOT NULL,
    killed_at   timestamptz NOT NULL,
    connected   integer     NOT NULL,
    reached     integer     NOT NULL,
    timed       integer     NOT NULL, -- of reached, those whose time is known
    p50         interval    NOT NULL,
    p99         interval    NOT NULL,
    last        interval    NOT NULL,
    pierced     bigint      NOT NULL, -- requests
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (environment, revision)
);
