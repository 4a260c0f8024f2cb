SET lock_timeout = '5s';

-- The Ed25519 key that signs the checkpoints of the audit log, sealed under
-- the master key.
-- Bounded: one row.
CREATE TABLE checkpoint_keys (
    name       text COLLATE "C" PRIMARY KEY CHECK (name ~ '^[a-z0-9-]{1,40}$'),
    verifier   text        NOT NULL, -- the public key
    sealed     bytea       NOT NULL,
    created_at timestamptz NOT NULL
);

-- What each chain was when it had size entries: the hash of the last of them,
-- the edge of the tree over all, and the signed note.
-- Bounded: one row for each 1,000 entries or minute with entries; those older
-- than 30 days are thinned out to one for each 1,024 entries.
CREATE TABLE audit_checkpoints (
    environment text COLLATE "C" NOT NULL,
    size        bigint      NOT NULL CHECK (size > 0),
    head        bytea       NOT NULL CHECK (octet_length(head) = 32),
    edge        bytea       NOT NULL CHECK (octet_length(edge) % 32 = 0),
    note        text        NOT NULL,
    created_at  timestamptz NOT NULL,
    anchor      boolean     NOT NULL DEFAULT false, -- the entries up to size were exported and may be dropped
    PRIMARY KEY (environment, size)
);

-- Only the owner of the log sets an anchor, and only entries behind one can be
-- deleted: see refuse_audit_change.
CREATE FUNCTION keep_anchor() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF OLD.anchor THEN
            RAISE EXCEPTION 'an anchor of the audit log stays' USING ERRCODE = 'insufficient_privilege';
        END IF;
        RETURN OLD;
    END IF;
    IF TG_OP = 'UPDATE' AND (OLD.anchor OR (NEW.environment, NEW.size, NEW.head, NEW.edge, NEW.note, NEW.created_at)
            IS DISTINCT FROM (OLD.environment, OLD.size, OLD.head, OLD.edge, OLD.note, OLD.created_at)) THEN
        RAISE EXCEPTION 'a checkpoint of the audit log stays as it is' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER audit_checkpoints_keep BEFORE UPDATE OR DELETE ON audit_checkpoints
    FOR EACH ROW EXECUTE FUNCTION keep_anchor();
ALTER TABLE audit_checkpoints ENABLE ALWAYS TRIGGER audit_checkpoints_keep;

-- The table now has one way out of it.
CREATE OR REPLACE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND TG_LEVEL = 'ROW' THEN
        IF EXISTS (SELECT FROM audit_checkpoints c WHERE c.environment = OLD.environment AND c.anchor AND c.size >= OLD.seq) THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE EXCEPTION 'audit_entries is append-only' USING ERRCODE = 'insufficient_privilege';
END
$$;
