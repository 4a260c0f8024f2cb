SET lock_timeout = '5s';

-- The Ed25519 keys that sign override tokens, sealed under the master key. The
-- newest of an environment signs, all verify.
-- Bounded: one row per environment, until somebody makes another.
CREATE TABLE override_keys (
    environment text COLLATE "C" NOT NULL REFERENCES environments (name),
    kid         text        NOT NULL CHECK (kid ~ '^[A-Za-z0-9-]{1,16}$'),
    sealed      bytea       NOT NULL,
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (environment, kid)
);

-- Overrides force a flag to a variant for the requests that carry their token.
-- The token is made of the row each time it is shown.
-- Bounded: store refuses more than 1,000 in an environment whose time is not
-- over.
-- Retained: 30 days after their end; each new one removes a few that are older.
CREATE TABLE overrides (
    id          uuid        PRIMARY KEY,
    environment text COLLATE "C" NOT NULL REFERENCES environments (name),
    flag        text COLLATE "C" NOT NULL,
    variant     text COLLATE "C" NOT NULL,
    audience    text COLLATE "C" NOT NULL,
    reason      text        NOT NULL,
    kid         text        NOT NULL,
    created_at  timestamptz NOT NULL,
    created_by  text        NOT NULL,
    expires_at  timestamptz NOT NULL CHECK (expires_at <= created_at + interval '24 hours'),
    revoked_at  timestamptz,
    FOREIGN KEY (environment, kid) REFERENCES override_keys (environment, kid)
);

CREATE INDEX overrides_by_end ON overrides (expires_at, environment);
