SET lock_timeout = '5s';

-- API keys. The text is random, so a plain SHA-256 of it is enough to
-- recognise it and not enough to find it out. last_used_at is written at most
-- once a minute; room in the page keeps those updates cheap.
-- Bounded: store refuses more than 10,000 keys that are not revoked.
CREATE TABLE api_keys (
    id           uuid        PRIMARY KEY,
    kind         text COLLATE "C" NOT NULL CHECK (kind IN ('server', 'client', 'admin', 'relay')),
    environment  text COLLATE "C" REFERENCES environments (name),
    name         text COLLATE "C" NOT NULL,
    name_hash    bytea       NOT NULL CHECK (octet_length(name_hash) = 32), -- what the audit log has in its place
    hash         bytea       NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
    hint         text        NOT NULL,
    origins      text[]      NOT NULL DEFAULT '{}',
    propagates   boolean     NOT NULL DEFAULT false,
    projects     text[]      NOT NULL DEFAULT '{}', -- that the key is restricted to; none for all
    created_at   timestamptz NOT NULL,
    created_by   text        NOT NULL,
    expires_at   timestamptz,
    revoked_at   timestamptz,
    last_used_at timestamptz,
    CHECK ((kind = 'admin') = (environment IS NULL))
) WITH (fillfactor = 80);

-- The keys that sign the guidon header, sealed under the master key. One that is
-- not activated yet is being handed out, and verifies; the one that is activated
-- and not retired signs; retired ones verify.
-- Bounded: store refuses more than 16 per environment.
-- Retained: a retired key for as long as its environment keeps revisions, and a
-- day.
CREATE TABLE propagation_keys (
    environment  text COLLATE "C" NOT NULL REFERENCES environments (name),
    kid          text        NOT NULL CHECK (kid ~ '^[A-Za-z0-9-]{1,16}$'),
    sealed       bytea       NOT NULL,
    created_at   timestamptz NOT NULL,
    activated_at timestamptz,
    retired_at   timestamptz CHECK (retired_at IS NULL OR activated_at IS NOT NULL),
    PRIMARY KEY (environment, kid)
);

CREATE UNIQUE INDEX propagation_keys_signer ON propagation_keys (environment) WHERE activated_at IS NOT NULL AND retired_at IS NULL;
CREATE UNIQUE INDEX propagation_keys_next ON propagation_keys (environment) WHERE activated_at IS NULL;
