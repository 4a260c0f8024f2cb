SET lock_timeout = '5s';

-- The installation has one row: the head of the audit chain that belongs to
-- no environment. It is locked after environments, never before.
CREATE TABLE installation (
    singleton  boolean     PRIMARY KEY DEFAULT true CHECK (singleton),
    audit_seq  bigint      NOT NULL DEFAULT 0,
    audit_head bytea       NOT NULL DEFAULT decode(repeat('00', 32), 'hex') CHECK (octet_length(audit_head) = 32),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

INSERT INTO installation DEFAULT VALUES;

-- revision is a counter bumped under the row's lock in the transaction of the
-- change, so numbers appear in commit order and without gaps. Revision 1 is
-- the environment as created. The row is rewritten by each change: half of
-- the page stays free and no index covers what changes, so that updates stay
-- in the page.
-- Bounded: one row per environment; people make them by hand.
CREATE TABLE environments (
    name       text COLLATE "C" PRIMARY KEY CHECK (name ~ '^[a-z0-9._-]{1,40}$'),
    position   integer     NOT NULL,
    revision   bigint      NOT NULL DEFAULT 1 CHECK (revision > 0),
    audit_seq  bigint      NOT NULL DEFAULT 0,
    audit_head bytea       NOT NULL DEFAULT decode(repeat('00', 32), 'hex') CHECK (octet_length(audit_head) = 32),
    protected  boolean     NOT NULL DEFAULT false,
    oldest     bigint      NOT NULL DEFAULT 1 CHECK (oldest BETWEEN 1 AND revision), -- revisions before it are collected
    bytes      bigint      NOT NULL DEFAULT 0, -- of the rows as of revision
    retention  integer     NOT NULL DEFAULT 90 CHECK (retention BETWEEN 30 AND 3650), -- days that superseded rows are kept, at least
    archived_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

-- Who made each revision, when and why: history and travel by time.
-- Retained as long as the versions that name the revision, at least 30 days.
CREATE TABLE revisions (
    environment text COLLATE "C" NOT NULL REFERENCES environments (name),
    revision    bigint      NOT NULL,
    change_id   uuid,       -- null for revision 1
    actor       text        NOT NULL,
    reason      text        NOT NULL,
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (environment, revision)
);

CREATE INDEX revisions_by_time ON revisions (environment, created_at);

INSERT INTO environments (name, position, protected) VALUES
    ('development', 1, false),
    ('staging', 2, false),
    ('production', 3, true);

INSERT INTO revisions (environment, revision, actor, reason, created_at)
SELECT name, revision, 'guidon', 'environment created', created_at FROM environments;
