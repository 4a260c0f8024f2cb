SET lock_timeout = '5s';

-- Where the database lives: cluster, timeline, database. It is another one after
-- a restore or a failover, which may have lost commits. Null where Postgres does
-- not tell, as a standby does not. A session sees no other once it was told, so
-- it asks once.
CREATE FUNCTION guidon_lineage() RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    known text := current_setting('guidon.lineage', true);
BEGIN
    IF known <> '' THEN
        RETURN known;
    END IF;
    BEGIN
        RETURN set_config('guidon.lineage', (SELECT system_identifier FROM pg_control_system())
            || '/' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)
            || '/' || (SELECT oid FROM pg_database WHERE datname = current_database()), false);
    EXCEPTION WHEN OTHERS THEN
        RETURN NULL;
    END;
END
$$;

-- Null until a server first looks.
ALTER TABLE installation ADD COLUMN lineage text;

-- The revisions that were published and are no more: first up to last, of which
-- none is used again.
-- Bounded: a row per environment and recovery; people make them by hand.
CREATE TABLE lost_revisions (
    environment text COLLATE "C" NOT NULL REFERENCES environments (name),
    first       bigint      NOT NULL,
    last        bigint      NOT NULL CHECK (last >= first),
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (environment, first)
);
