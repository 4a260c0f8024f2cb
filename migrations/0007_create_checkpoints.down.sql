SET lock_timeout = '5s';

CREATE OR REPLACE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit_entries is append-only' USING ERRCODE = 'insufficient_privilege';
END
$$;

DROP TABLE audit_checkpoints;
DROP FUNCTION keep_anchor();
DROP TABLE checkpoint_keys;
