SET lock_timeout = '5s';

-- What became of each change set, so that a client or a server that lost the
-- answer can ask again.
-- Retained: 30 days; one transaction in a few, by lot, removes those that are older.
CREATE TABLE changes (
    id              uuid        PRIMARY KEY,
    actor           text        NOT NULL,
    idempotency_key text,
    request_hash    bytea       NOT NULL,
    reason          text        NOT NULL,
    result          bytea       NOT NULL,
    created_at      timestamptz NOT NULL,
    UNIQUE (actor, idempotency_key)
);

CREATE INDEX changes_by_time ON changes (created_at);

-- The hash chains: one per environment and, under '', one for the
-- installation. payload is the exact bytes that were hashed; the columns
-- after it are derived from it for filters and prove nothing.
-- Retained: for ever, until the start of a chain is exported and anchored.
CREATE TABLE audit_entries (
    environment text COLLATE "C" NOT NULL,
    seq         bigint      NOT NULL CHECK (seq > 0),
    prev_hash   bytea       NOT NULL CHECK (octet_length(prev_hash) = 32),
    entry_hash  bytea       NOT NULL CHECK (octet_length(entry_hash) = 32),
    payload     bytea       NOT NULL,
    created_at  timestamptz NOT NULL,
    actor       text        NOT NULL, -- without the name of a person
    actions     text[]      NOT NULL,
    names       text[]      NOT NULL, -- 'flag/checkout.new-pricing'
    texts       bytea[]     NOT NULL, -- the hashes of texts that the payload holds
    change_id   uuid        NOT NULL,
    correlation text        NOT NULL,
    revision    bigint,               -- null in the installation's chain
    PRIMARY KEY (environment, seq)
);

CREATE INDEX audit_entries_by_time ON audit_entries (created_at, environment, seq);
CREATE INDEX audit_entries_by_change ON audit_entries (change_id);
CREATE INDEX audit_entries_by_name ON audit_entries USING gin (names);

CREATE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit_entries is append-only' USING ERRCODE = 'insufficient_privilege';
END
$$;

CREATE TRIGGER audit_entries_keep_rows BEFORE UPDATE OR DELETE ON audit_entries
    FOR EACH ROW EXECUTE FUNCTION refuse_audit_change();
CREATE TRIGGER audit_entries_keep_table BEFORE TRUNCATE ON audit_entries
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change();

-- ALWAYS: a session that plays replica skips ordinary triggers.
ALTER TABLE audit_entries ENABLE ALWAYS TRIGGER audit_entries_keep_rows;
ALTER TABLE audit_entries ENABLE ALWAYS TRIGGER audit_entries_keep_table;
