package store

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store/audit"
)

// Flag is one flag of one environment as of one version, with what the
// installation knows about its key.
type Flag struct {
	Environment string
	Key         string
	Project     string
	Kind        string
	Type        string
	Scope       string
	Owner       string
	Description string
	Tags        []string
	Links       []string
	// Schema is the JSON Schema that the values of a config flag must meet.
	Schema []byte
	// Lifecycle is active, archived or deleted.
	Lifecycle string
	// CreatedAt is when the key was made.
	CreatedAt time.Time
	// Document is the canonical document: {"flag": …, "guidon": …}.
	Document []byte
	// FromRevision is the revision that wrote this version, ToRevision the one
	// that replaced it; 0 if none did.
	FromRevision int64
	ToRevision   int64
	// UpdatedAt, UpdatedBy, Reason and ChangeID say who wrote this version.
	UpdatedAt time.Time
	UpdatedBy string
	Reason    string
	ChangeID  string
}

// FlagFilter narrows a list of flags. The zero value lets every flag pass;
// fields that are set must all hold.
type FlagFilter struct {
	Project string
	// Lifecycle is active, archived or deleted.
	Lifecycle string
	// Query is looked for in key and description, regardless of case.
	Query string
}

// FlagVersion is one version in the history of a flag.
type FlagVersion struct {
	Revision int64
	Time     time.Time
	Actor    string
	Reason   string
	ChangeID string
	// Before and After are the canonical documents; Before is nil for the
	// first version, After for the last one of a deleted flag. They are equal
	// where the flag was killed or unkilled.
	Before, After []byte
	// Emergencies is the document of the flag's emergencies as of Revision; nil
	// for none.
	Emergencies []byte
}

// selectFlags reads one page: the inner query finds the flags, the outer one
// ends the page early where the documents grow too large. found says whether
// there is more.
const selectFlags = `
SELECT environment, key, project, kind, type, scope, owner, description, tags, links, schema, lifecycle, created_at,
	document, from_revision, to_revision, updated_at, updated_by, reason, change_id, found
FROM (
	SELECT *, count(*) OVER () AS found, sum(octet_length(document)) OVER (ORDER BY key) - octet_length(document) AS bytes_before
	FROM (` + selectFlag + `
			AND v.to_revision IS NULL
			AND v.name > @after
			AND (@project = '' OR f.project = @project)
			AND (@lifecycle = '' OR f.lifecycle = @lifecycle)
			AND (@query = '' OR position(lower(@query) IN lower(f.key || ' ' || f.description)) > 0)
		ORDER BY v.name
		LIMIT @limit + 1
	) matching
) page
WHERE bytes_before < @bytes
ORDER BY key
LIMIT @limit`

const selectFlag = `
		SELECT v.environment, f.key, f.project, f.kind, f.type, f.scope, f.owner, f.description, f.tags, f.links, f.schema, f.lifecycle, f.created_at,
			v.document, v.from_revision, COALESCE(v.to_revision, 0) AS to_revision,
			r.created_at AS updated_at, r.actor AS updated_by, r.reason, COALESCE(r.change_id::text, '') AS change_id
		FROM flag_versions v
		JOIN flags f ON f.key = v.name
		JOIN revisions r ON r.environment = v.environment AND r.revision = v.from_revision
		WHERE v.environment = @environment AND v.kind = 'flag'`

// Flags lists the flags of an environment by key, with the token of the next
// page; empty if this is the last one.
func (db *DB) Flags(ctx context.Context, env string, filter FlagFilter, page Page) ([]Flag, string, error) {
	var after struct{ Key string }
	if _, err := page.after(&after); err != nil {
		return nil, "", err
	}
	limit, err := page.limit()
	if err != nil {
		return nil, "", err
	}
	type row struct {
		Flag
		Found int
	}
	rows, err := read[row](ctx, db, "flags", selectFlags, pgx.StrictNamedArgs{
		"environment": env, "after": after.Key, "limit": limit, "bytes": maxPageBytes,
		"project": filter.Project, "lifecycle": filter.Lifecycle, "query": filter.Query,
	})
	if err != nil {
		return nil, "", err
	}
	if len(rows) == 0 {
		_, err := db.newest(ctx, env)
		return nil, "", err
	}
	flags := make([]Flag, len(rows))
	for i, r := range rows {
		flags[i] = r.Flag
	}
	if rows[0].Found == len(rows) {
		return flags, "", nil
	}
	after.Key = flags[len(flags)-1].Key
	return flags, pageToken(after), nil
}

// Flag returns one flag of an environment as of a revision; 0 means newest.
// What the installation knows of the key is as it is now. A revision above
// the newest is ErrRevisionAhead, one that is collected ErrRevisionCollected.
func (db *DB) Flag(ctx context.Context, env, key string, revision int64) (Flag, error) {
	newest, err := db.newest(ctx, env)
	switch {
	case err != nil:
		return Flag{}, err
	case revision < 0:
		return Flag{}, &FieldError{"revision", "revisions start at 1"}
	case revision > newest:
		return Flag{}, fmt.Errorf("environment %.128q has no revision %d yet, the newest is %d: %w", env, revision, newest, ErrRevisionAhead)
	}
	const at = selectFlag + `
			AND v.name = @key AND v.from_revision <= @revision AND (v.to_revision IS NULL OR v.to_revision > @revision)`
	found, err := readOne[Flag](ctx, db, fmt.Sprintf("flag %.128q in %s", key, env), at, pgx.StrictNamedArgs{
		"environment": env, "key": key, "revision": cmp.Or(revision, newest),
	})
	if revision == 0 || err != nil && !errors.Is(err, ErrNotFound) {
		return found, err
	}
	if err := db.kept(ctx, env, revision); err != nil {
		return Flag{}, err
	}
	return found, err
}

// selectHistory reads one event per row: a revision at which the flag or its
// emergencies were written or dropped, with what they were before and after.
// Before the oldest revision only what began then and lasted until it is known,
// and not what that replaced.
const selectHistory = `
WITH kept AS (SELECT oldest FROM environments WHERE name = @environment)
SELECT revision, time, actor, reason, change_id, before, after, emergencies, found
FROM (
	SELECT *, count(*) OVER () AS found,
		sum(bytes) OVER (ORDER BY revision DESC) - bytes AS bytes_before
	FROM (
		SELECT h.revision, r.created_at AS time, r.actor, r.reason, COALESCE(r.change_id::text, '') AS change_id,
			CASE WHEN h.revision < kept.oldest THEN a.document ELSE b.document END AS before, a.document AS after, k.document AS emergencies,
			COALESCE(octet_length(b.document), 0) + COALESCE(octet_length(a.document), 0) + COALESCE(octet_length(k.document), 0) AS bytes
		FROM (
			SELECT DISTINCT event.at AS revision
			FROM kept
			JOIN flag_versions v ON v.to_revision IS NULL OR v.to_revision >= kept.oldest
			CROSS JOIN LATERAL (VALUES (v.from_revision), (v.to_revision)) AS event (at)
			WHERE v.environment = @environment AND v.kind IN ('flag', 'emergency') AND v.name = @key
				AND event.at IS NOT NULL AND (NOT @paged OR event.at < @before_revision)
			ORDER BY event.at DESC
			LIMIT @limit + 1
		) h
		CROSS JOIN kept
		JOIN revisions r ON r.environment = @environment AND r.revision = h.revision
		LEFT JOIN flag_versions b ON b.environment = @environment AND b.kind = 'flag' AND b.name = @key
			AND b.from_revision < h.revision AND (b.to_revision IS NULL OR b.to_revision >= h.revision)
		LEFT JOIN flag_versions a ON a.environment = @environment AND a.kind = 'flag' AND a.name = @key
			AND a.from_revision <= h.revision AND (a.to_revision IS NULL OR a.to_revision > h.revision)
		LEFT JOIN flag_versions k ON k.environment = @environment AND k.kind = 'emergency' AND k.name = @key
			AND k.from_revision <= GREATEST(h.revision, kept.oldest) AND (k.to_revision IS NULL OR k.to_revision > GREATEST(h.revision, kept.oldest))
		WHERE h.revision >= kept.oldest OR a.document IS NOT NULL
	) matching
) page
WHERE bytes_before < @bytes
ORDER BY revision DESC
LIMIT @limit`

// FlagHistory lists the versions of a flag in an environment that are kept,
// newest first, with the token of the next page. The oldest may have no Before
// of its own: it is then the same as After. A flag that never was there is ErrNotFound.
func (db *DB) FlagHistory(ctx context.Context, env, key string, page Page) ([]FlagVersion, string, error) {
	var after struct{ Revision int64 }
	paged, err := page.after(&after)
	if err != nil {
		return nil, "", err
	}
	limit, err := page.limit()
	if err != nil {
		return nil, "", err
	}
	type row struct {
		FlagVersion
		Found int
	}
	rows, err := read[row](ctx, db, "flag history", selectHistory, pgx.StrictNamedArgs{
		"environment": env, "key": key, "paged": paged, "before_revision": after.Revision, "limit": limit, "bytes": maxPageBytes,
	})
	if err == nil && len(rows) == 0 && !paged {
		err = fmt.Errorf("flag %.128q in %s: %w", key, env, ErrNotFound)
	}
	if err != nil || len(rows) == 0 {
		return nil, "", err
	}
	versions := make([]FlagVersion, len(rows))
	for i, r := range rows {
		versions[i] = r.FlagVersion
	}
	if rows[0].Found == len(rows) {
		return versions, "", nil
	}
	after.Revision = versions[len(versions)-1].Revision
	return versions, pageToken(after), nil
}

// flagRow is what the installation knows of a key.
type flagRow struct {
	Key, Project, Kind, Type, Scope string
	Owner, Description              string
	Tags, Links                     []string
	Schema                          []byte
	Lifecycle                       string
	// OwnerHash is what the audit log knows the owner by; nil if there is none.
	OwnerHash []byte
}

const selectAllFlagRows = `
SELECT key, project, kind, type, scope, owner, owner_hash, description, tags, links, schema, lifecycle
FROM flags`

var selectFlagRows = over(`
SELECT f.key, f.project, f.kind, f.type, f.scope, f.owner, f.owner_hash, f.description, f.tags, f.links, f.schema, f.lifecycle
FROM {rows}
CROSS JOIN LATERAL (SELECT * FROM flags WHERE flags.key = n.key OFFSET 0) f`,
	"key text")

const insertProject = `INSERT INTO projects (name, created_at) VALUES (@project, @at) ON CONFLICT (name) DO NOTHING`

const insertFlag = `
INSERT INTO flags (key, project, kind, type, scope, owner, owner_hash, description, tags, links, schema, lifecycle, created_at, created_by)
VALUES (@key, @project, @kind, @type, @scope, @owner, @owner_hash, @description, @tags, @links, @schema, @lifecycle, @at, @actor)`

const updateFlag = `
UPDATE flags SET type = @type, owner = @owner, owner_hash = @owner_hash, description = @description, tags = @tags, links = @links, schema = @schema,
	lifecycle = @lifecycle
WHERE key = @key`

var eraseFlags = `
UPDATE flags SET created_by = ` + anonymous("created_by") + `,
	owner = CASE WHEN owner = @name THEN '` + audit.Erased + `' ELSE owner END
WHERE owner = @name OR ` + named("created_by")

// write queues a key that is new or changed.
func (f *flagDraft) write(b *pgx.Batch, actor string, at time.Time) {
	if f.stored != nil {
		b.Queue(updateFlag, pgx.StrictNamedArgs{
			"key": f.Key, "type": f.Type, "owner": f.Owner, "owner_hash": f.OwnerHash, "description": f.Description, "tags": f.Tags,
			"links": f.Links, "schema": f.Schema, "lifecycle": f.Lifecycle,
		})
		return
	}
	b.Queue(insertProject, pgx.StrictNamedArgs{"project": f.Project, "at": at})
	b.Queue(insertFlag, pgx.StrictNamedArgs{
		"key": f.Key, "project": f.Project, "kind": f.Kind, "type": f.Type, "scope": f.Scope, "owner": f.Owner, "owner_hash": f.OwnerHash,
		"description": f.Description, "tags": f.Tags, "links": f.Links, "schema": f.Schema, "lifecycle": f.Lifecycle, "at": at, "actor": actor,
	})
}

var projectName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

func validProject(name string) bool { return projectName.MatchString(name) }

// Project owns flags and segments.
type Project struct {
	Name        string
	Description string
	CreatedAt   time.Time
	Archived    bool
	// Flags counts the flags in use.
	Flags int
}

// NewProject asks for a project, or, of one that exists, that it be archived.
type NewProject struct {
	Name, Description string
	// Actor is required; the rest is for the audit log.
	Actor, Reason, CorrelationID string
}

const selectProjects = `
SELECT p.name, p.description, p.created_at, p.archived_at IS NOT NULL AS archived,
	(SELECT count(*)::int FROM flags f WHERE f.project = p.name AND f.lifecycle = 'active') AS flags
FROM projects p
WHERE (@name = '' OR p.name = @name) AND p.name > @after
ORDER BY p.name
LIMIT @limit`

// Projects lists projects by name, with the token of the next page.
func (db *DB) Projects(ctx context.Context, page Page) ([]Project, string, error) {
	var after struct{ Name string }
	if _, err := page.after(&after); err != nil {
		return nil, "", err
	}
	limit, err := page.limit()
	if err != nil {
		return nil, "", err
	}
	rows, err := read[Project](ctx, db, "projects", selectProjects, pgx.StrictNamedArgs{"name": "", "after": after.Name, "limit": limit + 1})
	if err != nil || len(rows) <= limit {
		return rows, "", err
	}
	after.Name = rows[limit-1].Name
	return rows[:limit], pageToken(after), nil
}

const createProject = `
INSERT INTO projects (name, description, created_at) VALUES (@name, @description, @at) ON CONFLICT (name) DO NOTHING`

// CreateProject makes a project. A name that is taken is ErrExists.
func (db *DB) CreateProject(ctx context.Context, n NewProject) error {
	if !validProject(n.Name) {
		return &FieldError{"name", "must be 1 to 64 letters, digits, '.', '_' or '-'"}
	}
	if err := cmp.Or(checkText("description", n.Description, MaxTextBytes), checkActor(n.Actor, n.Reason, n.CorrelationID)); err != nil {
		return err
	}
	record := audit.Record{Actor: n.Actor, Reason: n.Reason, Correlation: n.CorrelationID}
	return db.installation(ctx, "create project", record, func(tx pgx.Tx, at time.Time) ([]audit.Operation, error) {
		tag, err := tx.Exec(ctx, createProject, pgx.StrictNamedArgs{"name": n.Name, "description": n.Description, "at": at})
		if err != nil {
			return nil, driver(err)
		}
		if tag.RowsAffected() == 0 {
			return nil, fmt.Errorf("project %q: %w", n.Name, ErrExists)
		}
		return []audit.Operation{{Action: audit.ActionCreateProject, Kind: kindProject, Name: n.Name, After: projectRecord(n.Description, false)}}, nil
	})
}

// ArchiveProject lets a project take no more flags. One that has flags in use
// is ErrInUse.
func (db *DB) ArchiveProject(ctx context.Context, n NewProject) error {
	if err := checkActor(n.Actor, n.Reason, n.CorrelationID); err != nil {
		return err
	}
	record := audit.Record{Actor: n.Actor, Reason: n.Reason, Correlation: n.CorrelationID}
	return db.installation(ctx, "archive project", record, func(tx pgx.Tx, at time.Time) ([]audit.Operation, error) {
		// Nobody takes the project for a new flag until this is committed.
		if _, err := tx.Exec(ctx, `SELECT FROM projects WHERE name = @name FOR UPDATE`, pgx.StrictNamedArgs{"name": n.Name}); err != nil {
			return nil, driver(err)
		}
		found, err := writing[Project](ctx, tx, selectProjects, pgx.StrictNamedArgs{"name": n.Name, "after": "", "limit": 1})
		if err != nil {
			return nil, err
		}
		switch {
		case len(found) == 0 || n.Name == "":
			return nil, fmt.Errorf("project %.128q: %w", n.Name, ErrNotFound)
		case found[0].Archived:
			return nil, nil
		case found[0].Flags > 0:
			return nil, fmt.Errorf("project %q: %w: it has %d flags; archive them first", n.Name, ErrInUse, found[0].Flags)
		}
		if _, err := tx.Exec(ctx, `UPDATE projects SET archived_at = @at WHERE name = @name`, pgx.StrictNamedArgs{"name": n.Name, "at": at}); err != nil {
			return nil, driver(err)
		}
		return []audit.Operation{{
			Action: audit.ActionArchiveProject, Kind: kindProject, Name: n.Name,
			Before: projectRecord(found[0].Description, false), After: projectRecord(found[0].Description, true),
		}}, nil
	})
}

// projectsExist returns ErrNotFound for the first of names that no project has.
func projectsExist(ctx context.Context, tx pgx.Tx, names []string) error {
	if len(names) == 0 {
		return nil
	}
	type row struct{ Name string }
	found, err := writing[row](ctx, tx, `SELECT name FROM projects WHERE name = ANY(@names)`, pgx.StrictNamedArgs{"names": names})
	if err != nil {
		return err
	}
	for _, name := range names {
		if !slices.Contains(found, row{name}) {
			return fmt.Errorf("project %q: %w", name, ErrNotFound)
		}
	}
	return nil
}

// refuseArchivedProject is run before a flag is put into a project: it holds
// the project's row until the change is made.
const refuseArchivedProject = `
SELECT name FROM projects WHERE name = ANY(@projects) AND archived_at IS NOT NULL FOR SHARE`

func (d *draft) projectsOpen(ctx context.Context, tx pgx.Tx, flags []*flagDraft) error {
	var projects []string
	for _, f := range flags {
		if f.stored == nil {
			projects = append(projects, f.Project)
		}
	}
	if len(projects) == 0 {
		return nil
	}
	type row struct{ Name string }
	archived, err := writing[row](ctx, tx, refuseArchivedProject, pgx.StrictNamedArgs{"projects": projects})
	if err == nil && len(archived) > 0 {
		err = fmt.Errorf("%w: %q", ErrArchivedProject, archived[0].Name)
	}
	return err
}

// projectRecord is what the audit log says of a project.
func projectRecord(description string, archived bool) json.RawMessage {
	raw, _ := json.Marshal(map[string]any{"archived": archived, "description": description}) // always encodes
	return raw
}

const selectProjectStates = `
SELECT name, description, archived_at IS NOT NULL AS archived,
	name = 'default' OR EXISTS (SELECT FROM flags WHERE project = name) AS needed
FROM projects`

// A project that nobody made was made with its first flag.
func projectStates(ctx context.Context, tx pgx.Tx) ([]stateRow, error) {
	type row struct {
		Name, Description string
		Archived, Needed  bool
	}
	return states(ctx, tx, selectProjectStates, func(r row) stateRow {
		return stateRow{
			kind: kindProject, name: r.Name, document: projectRecord(r.Description, r.Archived),
			unmade: r.Needed && r.Description == "" && !r.Archived,
		}
	})
}

const selectDescriptions = `
SELECT key, owner, description, tags, links, schema FROM flags WHERE key = ANY(@keys)`

// Descriptions returns what describes flags, by key, whether they are there still
// or were deleted: no environment and no revision has a say in it.
func (db *DB) Descriptions(ctx context.Context, keys []string) (map[string]Flag, error) {
	type row struct {
		Key, Owner, Description string
		Tags, Links             []string
		Schema                  []byte
	}
	rows, err := read[row](ctx, db, "flags", selectDescriptions, pgx.StrictNamedArgs{"keys": keys})
	out := make(map[string]Flag, len(rows))
	for _, r := range rows {
		out[r.Key] = Flag{Key: r.Key, Owner: r.Owner, Description: r.Description, Tags: r.Tags, Links: r.Links, Schema: r.Schema}
	}
	return out, err
}

const selectFlagStates = `
SELECT f.*, COALESCE(t.text, f.owner) AS said
FROM (` + selectAllFlagRows + `) f
LEFT JOIN audit_texts t ON t.hash = f.owner_hash`

// A flag that nobody described is made by the chain of an environment alone.
func flagStates(ctx context.Context, tx pgx.Tx) ([]stateRow, error) {
	type row struct {
		flagRow
		Said string
	}
	nothing := undescribed.record()
	return states(ctx, tx, selectFlagStates, func(r row) stateRow {
		if r.Said != r.Owner {
			r.OwnerHash = make([]byte, len(audit.Hash{})) // given away behind the log's back
		}
		document := r.record()
		return stateRow{kind: eval.KindFlag.String(), name: r.Key, document: document, unmade: bytes.Equal(document, nothing)}
	})
}
