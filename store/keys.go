package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/guidon-flags/guidon/store/audit"
)

// Why a well-formed API key is refused.
var (
	// ErrKeyUnknown says that the installation has no such key.
	ErrKeyUnknown = errors.New("unknown API key")
	// ErrKeyExpired says that the key's time is over.
	ErrKeyExpired = errors.New("expired API key")
	// ErrKeyRevoked says that somebody revoked the key.
	ErrKeyRevoked = errors.New("revoked API key")
)

// Key is what the database knows of an API key.
type Key struct {
	ID   string
	Kind KeyKind
	// Environment is the one the key is good for; empty for an admin key,
	// which is good for all.
	Environment string
	Name        string
	// Origins are the web origins whose pages may use a client key.
	Origins []string
	// Hint is the last four characters of the text.
	Hint      string
	CreatedAt time.Time
	CreatedBy string
	// ExpiresAt, RevokedAt and LastUsedAt are zero for never. LastUsedAt is
	// true to the minute.
	ExpiresAt, RevokedAt, LastUsedAt time.Time
	// Propagates says that the key's callers send guidon headers along; see
	// [NewKey].
	Propagates bool
	// Projects are those that the key is restricted to, sorted; none for all.
	Projects []string
}

// NewKey asks for an API key.
type NewKey struct {
	Kind KeyKind
	// Environment is required for every kind but admin, which has none.
	Environment string
	// Name is what people will know the key by. Required.
	Name string
	// Origins are the web origins, "https://shop.example", whose pages may use
	// a client key; "*" is any. Other kinds have none.
	Origins []string
	// Expires is when the key stops working; zero for never.
	Expires time.Time
	// Propagates says that callers with this server key send the guidon headers
	// of their requests along. They are given nothing that their clients would
	// keep for the next request, which may have another pin.
	Propagates bool
	// Projects restrict a server or client key to their flags. A service with
	// such a key follows and forwards guidon headers and signs none.
	Projects []string
	// Actor and Reason are for the audit log. Actor is required.
	Actor, Reason string
	// CorrelationID ties the audit entry to the request.
	CorrelationID string
}

// maxLiveKeys bounds the keys that are not revoked.
const maxLiveKeys = 10_000

const selectKey = `
SELECT id::text AS id, kind, COALESCE(environment, '') AS environment, name, name_hash, hint, origins, created_at, created_by,
	expires_at, revoked_at, last_used_at, propagates, projects
FROM api_keys`

// keyRow is Key as the table has it.
type keyRow struct {
	ID, Kind, Environment, Name, Hint string
	NameHash                          []byte
	Origins                           []string
	CreatedAt                         time.Time
	CreatedBy                         string
	ExpiresAt, RevokedAt, LastUsedAt  *time.Time
	Propagates                        bool
	Projects                          []string
}

func (r keyRow) key() Key {
	at := func(t *time.Time) time.Time {
		if t == nil {
			return time.Time{}
		}
		return *t
	}
	return Key{
		ID: r.ID, Kind: KeyKind(r.Kind), Environment: r.Environment, Name: r.Name, Hint: r.Hint, Origins: r.Origins,
		CreatedAt: r.CreatedAt, CreatedBy: r.CreatedBy,
		ExpiresAt: at(r.ExpiresAt), RevokedAt: at(r.RevokedAt), LastUsedAt: at(r.LastUsedAt),
		Propagates: r.Propagates, Projects: r.Projects,
	}
}

// record is what the audit log says of a key: everything but the secret, and the
// name as its hash.
func (k Key) record(nameHash audit.Hash) json.RawMessage {
	raw, err := json.Marshal(struct {
		Kind        KeyKind   `json:"kind"`
		Environment string    `json:"environment,omitempty"`
		NameHash    string    `json:"name_hash"`
		Hint        string    `json:"hint"`
		Origins     []string  `json:"origins,omitempty"`
		Expires     time.Time `json:"expires,omitzero"`
		Revoked     time.Time `json:"revoked,omitzero"`
		Propagates  bool      `json:"propagates,omitzero"`
		Projects    []string  `json:"projects,omitempty"`
	}{k.Kind, k.Environment, nameHash.String(), k.Hint, k.Origins, k.ExpiresAt.UTC(), k.RevokedAt.UTC(), k.Propagates, k.Projects})
	if err != nil {
		panic(err) // strings and times always encode
	}
	return raw
}

const countKeys = `
SELECT count(*) FILTER (WHERE revoked_at IS NULL) AS live, max(created_at) FILTER (WHERE id = @id) AS made
FROM api_keys`

const insertKey = `
INSERT INTO api_keys (id, kind, environment, name, name_hash, hash, hint, origins, created_at, created_by, expires_at, propagates, projects)
VALUES (@id, @kind, NULLIF(@environment, ''), @name, @name_hash, @hash, @hint, @origins, @at, @actor, @expires, @propagates, @projects)`

var eraseKeys = `
UPDATE api_keys SET name = CASE WHEN name = @name THEN '` + audit.Erased + `' ELSE name END, created_by = ` + anonymous("created_by") + `
WHERE name = @name OR ` + named("created_by")

// CreateKey makes an API key and returns its text, which nobody can ask for
// again. An environment or a project that does not exist is ErrNotFound.
func (db *DB) CreateKey(ctx context.Context, n NewKey) (Key, KeyText, error) {
	if err := n.check(); err != nil {
		return Key{}, KeyText{}, err
	}
	if n.Environment != "" {
		if _, err := db.newest(ctx, n.Environment); err != nil {
			return Key{}, KeyText{}, err
		}
	}
	text := newKeyText(n.Kind)
	hash := text.Hash()
	k := Key{
		ID: newID(), Kind: n.Kind, Environment: n.Environment, Name: n.Name, Hint: text.hint(), CreatedBy: n.Actor,
		Origins:   append([]string{}, n.Origins...), // none is no NULL
		ExpiresAt: n.Expires.UTC().Truncate(time.Microsecond), Propagates: n.Propagates,
		Projects: slices.Compact(slices.Sorted(slices.Values(n.Projects))),
	}
	if k.Projects == nil {
		k.Projects = []string{}
	}
	nameHash, err := db.person(ctx, n.Name)
	if err != nil {
		return Key{}, KeyText{}, err
	}
	r := audit.Record{Actor: n.Actor, Reason: n.Reason, Correlation: n.CorrelationID}
	err = db.installation(ctx, "create key", r, func(tx pgx.Tx, at time.Time) ([]audit.Operation, error) {
		type count struct {
			Live int
			Made *time.Time
		}
		found, err := writing[count](ctx, tx, countKeys, pgx.StrictNamedArgs{"id": k.ID})
		if err != nil {
			return nil, err
		}
		if found[0].Made != nil { // by a try whose commit went unanswered
			k.CreatedAt = *found[0].Made
			return nil, nil
		}
		if live := found[0].Live; live >= maxLiveKeys {
			return nil, &FieldError{"keys", fmt.Sprintf("there are %d already: revoke some", live)}
		}
		if err := projectsExist(ctx, tx, k.Projects); err != nil {
			return nil, err
		}
		k.CreatedAt = at
		var expires *time.Time
		if !k.ExpiresAt.IsZero() {
			expires = &k.ExpiresAt
		}
		if expires != nil && !expires.After(at) {
			return nil, &FieldError{"expires_at", "is in the past"}
		}
		_, err = tx.Exec(ctx, insertKey, pgx.StrictNamedArgs{
			"id": k.ID, "kind": k.Kind, "environment": k.Environment, "name": k.Name, "name_hash": nameHash[:], "hash": hash[:], "hint": k.Hint, "origins": k.Origins,
			"at": at, "actor": n.Actor, "expires": expires, "propagates": k.Propagates,
			"projects": k.Projects,
		})
		return []audit.Operation{{Action: audit.ActionCreateKey, Kind: kindKey, Name: k.ID, After: k.record(nameHash)}}, driver(err)
	})
	if err != nil {
		return Key{}, KeyText{}, err
	}
	return k, text, nil
}

func (n NewKey) check() error {
	switch {
	case !n.Kind.valid():
		return &FieldError{"kind", fmt.Sprintf("%.128q is not one of server, client, admin, relay", n.Kind)}
	case n.Kind == KeyAdmin && n.Environment != "":
		return &FieldError{"environment", "an admin key is for the whole installation and names none"}
	case n.Kind != KeyAdmin && n.Environment == "":
		return &FieldError{"environment", fmt.Sprintf("is required for a %s key", n.Kind)}
	case n.Propagates && n.Kind != KeyServer:
		return &FieldError{"propagates", fmt.Sprintf("is for server keys; headers that come with a %s key are not its own", n.Kind)}
	case strings.TrimSpace(n.Name) == "":
		return &FieldError{"name", "is required"}
	case strings.TrimSpace(n.Actor) == "":
		return &FieldError{"actor", "is required"}
	}
	for _, t := range []struct {
		field, text string
		limit       int
	}{
		{"name", n.Name, MaxNameBytes},
		{"actor", n.Actor, MaxTextBytes},
		{"reason", n.Reason, MaxTextBytes},
		{"correlation_id", n.CorrelationID, MaxNameBytes},
	} {
		if err := checkText(t.field, t.text, t.limit); err != nil {
			return err
		}
	}
	if err := n.checkProjects(); err != nil {
		return err
	}
	return n.checkOrigins()
}

// maxKeyProjects bounds the projects of one key.
const maxKeyProjects = 100

func (n NewKey) checkProjects() error {
	switch {
	case len(n.Projects) > 0 && n.Kind != KeyServer && n.Kind != KeyClient:
		return &FieldError{"projects", fmt.Sprintf("are for server and client keys; a %s key is for all of them", n.Kind)}
	case len(n.Projects) > maxKeyProjects:
		return &FieldError{"projects", fmt.Sprintf("are %d, more than %d", len(n.Projects), maxKeyProjects)}
	}
	for i, name := range n.Projects {
		if !validProject(name) {
			return &FieldError{fmt.Sprintf("projects[%d]", i), "must be 1 to 64 letters, digits, '.', '_' or '-'"}
		}
	}
	return nil
}

// maxOrigins bounds the origins of one key.
const maxOrigins = 100

// checkOrigins wants each origin as a browser spells it: an allow-list that
// never matches is found out too late.
func (n NewKey) checkOrigins() error {
	if len(n.Origins) > 0 && n.Kind != KeyClient {
		return &FieldError{"origins", fmt.Sprintf("are for client keys; a %s key must not be in a page", n.Kind)}
	}
	if len(n.Origins) > maxOrigins {
		return &FieldError{"origins", fmt.Sprintf("are %d, more than %d", len(n.Origins), maxOrigins)}
	}
	for i, origin := range n.Origins {
		u, err := url.Parse(origin)
		if origin != "*" && (err != nil || u.Host == "" || u.Scheme == "" || u.Scheme+"://"+strings.ToLower(u.Host) != origin || len(origin) > MaxNameBytes) {
			return &FieldError{fmt.Sprintf("origins[%d]", i), fmt.Sprintf("%.128q is no origin: want https://host or https://host:port, in lower case, or *", origin)}
		}
	}
	return nil
}

// Keys lists all API keys, newest first, revoked and expired ones too, with
// the token of the next page.
func (db *DB) Keys(ctx context.Context, page Page) ([]Key, string, error) {
	return listByID(ctx, db, "api_keys", selectKey+` WHERE true`, nil, page, keyRow.key, func(k Key) string { return k.ID })
}

// RevokeKey ends an API key at once. Revoking a revoked key changes nothing.
func (db *DB) RevokeKey(ctx context.Context, asked Revocation) (Key, error) {
	if err := asked.check(kindKey); err != nil {
		return Key{}, err
	}
	var k Key
	err := db.installation(ctx, "revoke key", asked.record(), func(tx pgx.Tx, at time.Time) ([]audit.Operation, error) {
		rows, err := writing[keyRow](ctx, tx, selectKey+` WHERE id = @id`, pgx.StrictNamedArgs{"id": asked.ID})
		if err != nil {
			return nil, err
		}
		if len(rows) == 0 {
			return nil, asked.notFound(kindKey)
		}
		if k = rows[0].key(); !k.RevokedAt.IsZero() {
			return nil, nil
		}
		nameHash := audit.Hash(rows[0].NameHash)
		before := k.record(nameHash)
		k.RevokedAt = at
		_, err = tx.Exec(ctx, `UPDATE api_keys SET revoked_at = @at WHERE id = @id`, pgx.StrictNamedArgs{"id": asked.ID, "at": at})
		return []audit.Operation{{Action: audit.ActionRevokeKey, Kind: kindKey, Name: k.ID, Before: before, After: k.record(nameHash)}}, driver(err)
	})
	if err != nil {
		return Key{}, err
	}
	return k, nil
}

// KeyByText returns the key that a caller presents, or ErrKeyMalformed,
// ErrKeyUnknown, or the key that it was with ErrKeyExpired or ErrKeyRevoked. A
// malformed one costs no query. The time of use is noted at most once a minute.
func (db *DB) KeyByText(ctx context.Context, text string) (Key, error) {
	t, _, err := ParseKey(text)
	if err != nil {
		return Key{}, err
	}
	hash := t.Hash()
	type row struct {
		keyRow
		Now time.Time
	}
	// The hash of a random key leaks nothing by how long the index takes.
	found, err := readOne[row](ctx, db, "API key", `
		SELECT k.*, now() AS now FROM (`+selectKey+` WHERE hash = @hash) k`, pgx.StrictNamedArgs{"hash": hash[:]})
	if errors.Is(err, ErrNotFound) {
		err = ErrKeyUnknown
	}
	if err != nil {
		return Key{}, err
	}
	k := found.key()
	switch {
	case !k.RevokedAt.IsZero():
		return k, ErrKeyRevoked
	case !k.ExpiresAt.IsZero() && !found.Now.Before(k.ExpiresAt):
		return k, ErrKeyExpired
	case found.Now.Sub(k.LastUsedAt) >= time.Minute:
		db.noteUse(ctx, k.ID)
	}
	return k, nil
}

// KeyHash is a key with what a caller's text is recognised by.
type KeyHash struct {
	Key
	Hash [32]byte
}

// KeyHashes returns the keys of an environment that are good, by ID: what a
// relay needs to know its callers without asking. Of no environment, "", it
// returns all keys that are good.
func (db *DB) KeyHashes(ctx context.Context, env string) ([]KeyHash, error) {
	type row struct {
		keyRow
		Hash []byte
	}
	rows, err := read[row](ctx, db, "key hashes", `
		SELECT k.*, a.hash
		FROM (`+selectKey+` WHERE @environment IN ('', environment) AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())) k
		JOIN api_keys a ON a.id = k.id::uuid
		ORDER BY k.id`, pgx.StrictNamedArgs{"environment": env})
	out := make([]KeyHash, len(rows))
	for i, r := range rows {
		out[i] = KeyHash{r.key(), [32]byte(r.Hash)}
	}
	return out, err
}

// noteUse writes when a key was used. A key works without: the note is not
// worth refusing a request for, as when the disk is full.
func (db *DB) noteUse(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err := db.exec(Background(ctx), `
		UPDATE api_keys SET last_used_at = now()
		WHERE id = @id AND (last_used_at IS NULL OR last_used_at <= now() - interval '1 minute')`, pgx.StrictNamedArgs{"id": id})
	if err != nil && ctx.Err() == nil {
		db.log.LogAttrs(ctx, slog.LevelWarn, "use of key not noted", slog.String("key_id", id), slog.Any("error", err))
	}
}

const selectKeyStates = `
SELECT k.*, COALESCE(t.text, k.name) AS said
FROM (` + selectKey + `) k
LEFT JOIN audit_texts t ON t.hash = k.name_hash`

func keyStates(ctx context.Context, tx pgx.Tx) ([]stateRow, error) {
	type row struct {
		keyRow
		Said string
	}
	return states(ctx, tx, selectKeyStates, func(r row) stateRow {
		hash := audit.Hash(r.NameHash)
		if r.Said != r.Name {
			hash = audit.Hash{} // renamed behind the log's back
		}
		return stateRow{kind: kindKey, name: r.ID, document: r.key().record(hash)}
	})
}
