SET lock_timeout = '5s';

-- Bounded: one row per project; made by hand or when a flag first names it.
CREATE TABLE projects (
    name        text COLLATE "C" PRIMARY KEY CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'),
    description text        NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL DEFAULT now(),
    archived_at timestamptz
);

INSERT INTO projects (name) VALUES ('default');

-- What the installation knows of a flag key, in all environments. A deleted
-- key stays as a tombstone, so that it is never reused by accident.
-- Bounded: one row per key that was ever used.
CREATE TABLE flags (
    key         text COLLATE "C" PRIMARY KEY CHECK (key ~ '^[A-Za-z][A-Za-z0-9._-]{0,127}$'),
    project     text COLLATE "C" NOT NULL REFERENCES projects (name),
    kind        text COLLATE "C" NOT NULL CHECK (kind IN ('release', 'experiment', 'ops', 'permission', 'config')),
    type        text        NOT NULL CHECK (type IN ('', 'boolean', 'string', 'integer', 'float', 'object')), -- '' until an isolated flag has variants of one type
    scope       text        NOT NULL CHECK (scope IN ('request', 'local')),
    schema      bytea,      -- JSON Schema of a config flag's values
    owner       text        NOT NULL DEFAULT '',
    owner_hash  bytea,      -- what the audit log knows the owner by
    description text        NOT NULL DEFAULT '',
    tags        text[]      NOT NULL DEFAULT '{}',
    links       text[]      NOT NULL DEFAULT '{}',
    lifecycle   text        NOT NULL DEFAULT 'active' CHECK (lifecycle IN ('active', 'archived', 'deleted')),
    created_at  timestamptz NOT NULL,
    created_by  text        NOT NULL
);

CREATE INDEX flags_by_project ON flags (project);

-- One row per version of a flag, a segment, the settings of an environment or
-- the emergencies of a flag.
-- The snapshot at revision r is the rows with
--     from_revision <= r AND (to_revision IS NULL OR to_revision > r)
-- and document is what is hashed and served, to the byte. Rows are written
-- and closed only under the lock of their environment, which stands in for
-- foreign keys.
-- Retained: rows that were closed before the oldest revision of their
-- environment are removed; open rows never.
CREATE TABLE flag_versions (
    environment   text COLLATE "C" NOT NULL,
    kind          text COLLATE "C" NOT NULL CHECK (kind IN ('flag', 'segment', 'settings', 'emergency')),
    name          text COLLATE "C" NOT NULL,
    from_revision bigint NOT NULL,
    to_revision   bigint CHECK (to_revision > from_revision),
    document      bytea  NOT NULL,
    hash          bytea  NOT NULL CHECK (octet_length(hash) = 32),
    refers        text[] NOT NULL, -- 'segment/people', 'flag/basis': what the document needs besides itself
    PRIMARY KEY (environment, kind, name, from_revision)
);

CREATE UNIQUE INDEX flag_versions_open ON flag_versions (environment, kind, name) WHERE to_revision IS NULL;
CREATE INDEX flag_versions_by_reference ON flag_versions USING gin (refers) WHERE to_revision IS NULL AND refers <> '{}';
CREATE INDEX flag_versions_by_start ON flag_versions (environment, from_revision);
CREATE INDEX flag_versions_by_end ON flag_versions (environment, to_revision) WHERE to_revision IS NOT NULL;
