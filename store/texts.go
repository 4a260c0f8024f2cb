package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/guidon-flags/guidon/store/audit"
)

// textColumns are the texts of an entry, by hash.
type textColumns struct {
	Salts [][]byte
	Said  []string
}

func (c textColumns) list() []audit.Text {
	var out []audit.Text
	for i, salt := range c.Salts {
		out = append(out, audit.Text{Salt: [16]byte(salt), Text: c.Said[i]})
	}
	return out
}

// joinTexts adds [textColumns] to rows that have texts.
const joinTexts = `
LEFT JOIN LATERAL (
	SELECT array_agg(salt ORDER BY hash) AS salts, array_agg(text ORDER BY hash) AS said
	FROM audit_texts
	WHERE hash = ANY(texts)
) texts_of ON true`

// people remembers the hashes of names, so that a change set costs no look-up.
// It forgets soon: a name may have been erased through another replica, and
// what its owner does until then counts as done by somebody erased.
type people struct {
	mu     sync.Mutex
	hashes map[string]audit.Hash
	until  time.Time
}

const (
	peopleFor = 10 * time.Second
	maxPeople = 1000
)

func (p *people) hash(name string) (audit.Hash, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Now().After(p.until) {
		p.hashes = nil
	}
	h, ok := p.hashes[name]
	return h, ok
}

func (p *people) keep(name string, h audit.Hash) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hashes == nil || len(p.hashes) >= maxPeople {
		p.hashes, p.until = map[string]audit.Hash{}, time.Now().Add(peopleFor)
	}
	p.hashes[name] = h
}

func (p *people) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hashes = nil
}

// The index is over what is short, whatever the name is.
const selectPerson = `
SELECT hash FROM audit_texts WHERE person AND md5(text) = md5(@name) AND text = @name`

// The row is as durable as a change is before its hash is remembered: else the
// entries of later changes could have a hash that is nobody's.
const insertPerson = `
INSERT INTO audit_texts (hash, salt, person, text)
VALUES (@hash, @salt, true, @name)
ON CONFLICT DO NOTHING`

// person returns the hash that entries know a person by. It is made when the
// name first occurs, and again after the name was erased.
func (db *DB) person(ctx context.Context, name string) (audit.Hash, error) {
	if h, ok := db.people.hash(name); ok {
		return h, nil
	}
	made := newText(name)
	hash := made.Hash()
	type row struct{ Hash []byte }
	for _, insert := range []bool{false, true} {
		if insert {
			_, err := db.exec(ctx, insertPerson, pgx.StrictNamedArgs{"hash": hash[:], "salt": made.Salt[:], "name": name})
			if err != nil {
				return hash, dbError("audit texts", err)
			}
		}
		rows, err := read[row](ctx, db, "audit texts", selectPerson, pgx.StrictNamedArgs{"name": name})
		if err != nil {
			return hash, err
		}
		if len(rows) > 0 { // maybe made by another replica
			hash = audit.Hash(rows[0].Hash)
			db.people.keep(name, hash)
			return hash, nil
		}
	}
	return hash, nil // erased at this very moment
}

// pseudonymous takes the name out of a record's actor, and adds from where it is.
func (db *DB) pseudonymous(ctx context.Context, r audit.Record) (audit.Record, error) {
	r.Origin = originOf(ctx)
	principal, name := audit.SplitActor(r.Actor)
	if r.Actor = principal; name == "" {
		return r, nil
	}
	hash, err := db.person(ctx, name)
	r.PersonHash = hash.String()
	return r, err
}

// owners returns the hashes that entries know the owners of flags by: an owner is
// often a person.
func (db *DB) owners(ctx context.Context, steps []step) (map[string]audit.Hash, error) {
	var out map[string]audit.Hash
	for _, s := range steps {
		if s.owner == "" {
			continue
		}
		hash, err := db.person(ctx, s.owner)
		if err != nil {
			return nil, err
		}
		if out == nil {
			out = map[string]audit.Hash{}
		}
		out[s.owner] = hash
	}
	return out, nil
}

func newText(text string) audit.Text {
	t := audit.Text{Text: text}
	_, _ = rand.Read(t.Salt[:]) // crypto/rand does not fail
	return t
}

// hiddenText is a text of one entry alone.
type hiddenText struct {
	audit.Text
	// originOf is, of an origin, the hash of the person whose it is, and empty
	// without one. Else it is nil.
	originOf []byte
}

// hideTexts leaves the hashes of the reason and the origin in a record and
// returns the texts. Each entry has its own.
func hideTexts(r *audit.Record) (hidden []hiddenText) {
	if r.Reason != "" {
		t := newText(r.Reason)
		r.Reason, r.ReasonHash = "", t.Hash().String()
		hidden = append(hidden, hiddenText{t, nil})
	}
	if r.Origin != "" {
		t := newText(r.Origin)
		r.Origin, r.OriginHash = "", t.Hash().String()
		person := []byte{}
		if raw, err := hex.DecodeString(r.PersonHash); err == nil {
			person = raw
		}
		hidden = append(hidden, hiddenText{t, person})
	}
	return hidden
}

var insertTexts = over(`
INSERT INTO audit_texts (hash, salt, person, text, origin_of)
SELECT hash, salt, false, text, origin_of
FROM {rows}`,
	"hash bytea", "salt bytea", "text text", "origin_of bytea")

// hashArray writes hashes as Postgres reads an array of bytea.
func hashArray(hashes [][]byte) string {
	var b strings.Builder
	for i, hash := range hashes {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `"\\x%x"`, hash)
	}
	return "{" + b.String() + "}"
}

// textsOf lists the hashes of texts in a record.
func textsOf(r audit.Record) [][]byte {
	out := [][]byte{}
	for _, hash := range r.TextHashes() {
		if raw, err := hex.DecodeString(hash); err == nil {
			out = append(out, raw)
		}
	}
	return out
}

// deleteReasons removes the reasons of entries that go. People's names stay: other
// entries have them too.
const deleteReasons = `
	DELETE FROM audit_texts WHERE NOT person AND hash IN (SELECT unnest(texts) FROM going)`

// An Erasure asks for what is known of a person to be erased.
type Erasure struct {
	// Person is a name as it stands in actors, behind "key:<id> ", as the name of
	// keys, and as the owner of flags. At least 3 bytes.
	Person string
	// DryRun counts what would be erased, and erases nothing.
	DryRun bool
	// Actor and Reason are for the audit log, and required. The reason stays,
	// so it must not hold the name.
	Actor, Reason string
	// CorrelationID ties the audit entry to the request.
	CorrelationID string
}

// Erased counts what was erased.
type Erased struct {
	// Names is 1 if the audit log knew the person by name, else 0.
	Names int `json:"names"`
	// Reasons of audit entries held the name.
	Reasons int `json:"reasons"`
	// Origins are those of what the person did.
	Origins int64 `json:"origins"`
	// Rows are those of keys, revisions, flags, overrides and change sets that
	// named the person.
	Rows int64 `json:"rows"`
}

func (e Erasure) check() error {
	switch person := strings.TrimSpace(e.Person); {
	case len(person) < 3 || person != e.Person || person == audit.Erased:
		return &FieldError{"person", "must be a name of at least 3 bytes, without space around it"}
	case strings.TrimSpace(e.Reason) == "":
		return &FieldError{"reason", "is required"}
	case strings.Contains(strings.ToLower(e.Reason), strings.ToLower(e.Person)):
		return &FieldError{"reason", "holds the name, and would keep it"}
	}
	if err := checkText("person", e.Person, MaxTextBytes); err != nil {
		return err
	}
	return checkActor(e.Actor, e.Reason, e.CorrelationID)
}

// A reason is free text: it goes whole if it holds the name, in whatever case. So
// do the origins of what the person did, and those of persons who are gone.
// The revisions go in the same statement: of a change that is made meanwhile,
// both have the name or neither.
var deleteTexts = `
WITH revised AS (` + eraseRevisions + `
	RETURNING 1
), gone AS (
	DELETE FROM audit_texts
	WHERE person AND text = @name OR NOT person AND position(lower(@name) IN lower(text)) > 0
		OR origin_of <> '' AND origin_of NOT IN (SELECT hash FROM audit_texts WHERE person AND text <> @name)
	RETURNING hash, person, origin_of
)
SELECT hash, person, 0::bigint AS revised, 0::bigint AS origins FROM gone WHERE origin_of IS NULL
UNION ALL
SELECT NULL, false, (SELECT count(*) FROM revised), (SELECT count(*) FROM gone WHERE origin_of IS NOT NULL)`

// Erase removes a person's name, the reasons that hold it and from where the
// person acted from the audit log, in whose place [audit.Erased] stands from then on, and from what else names
// who did something. The entries themselves hold only hashes and stay; that
// something was erased, and which names and reasons by their hashes, is an entry of the installation's
// chain. What was exported, printed or backed up before is not in reach.
func (db *DB) Erase(ctx context.Context, asked Erasure) (Erased, error) {
	if err := asked.check(); err != nil {
		return Erased{}, err
	}
	var done Erased
	r := audit.Record{Actor: asked.Actor, Reason: asked.Reason, Correlation: asked.CorrelationID}
	id := newID()
	err := db.installation(ctx, "erase", r, func(tx pgx.Tx, _ time.Time) ([]audit.Operation, error) {
		type row struct {
			Hash    []byte
			Person  bool
			Revised int64
			Origins int64
		}
		args := pgx.StrictNamedArgs{"name": asked.Person}
		// All texts are read, for a name may stand in any of them.
		if _, err := tx.Exec(ctx, `SET LOCAL statement_timeout = '18s'`); err != nil {
			return nil, driver(err)
		}
		rows, err := writing[row](ctx, tx, deleteTexts, args)
		if err != nil {
			return nil, err
		}
		erased := Erased{}
		hashes := []string{}
		for _, r := range rows {
			if r.Hash == nil {
				erased.Rows, erased.Origins = r.Revised, r.Origins
				continue
			}
			hashes = append(hashes, hex.EncodeToString(r.Hash))
			if r.Person {
				erased.Names++
			} else {
				erased.Reasons++
			}
		}
		for _, anonymise := range []string{eraseKeys, eraseFlags, eraseOverrides, eraseChanges} {
			tag, err := tx.Exec(ctx, anonymise, args)
			if err != nil {
				return nil, driver(err)
			}
			erased.Rows += tag.RowsAffected()
		}
		if asked.DryRun {
			done = erased
			return nil, errRollback
		}
		if erased == (Erased{}) { // unless an earlier try erased it
			return nil, nil
		}
		done = erased
		slices.Sort(hashes)
		after, err := json.Marshal(map[string]any{"names": done.Names, "reasons": done.Reasons, "origins": done.Origins, "rows": done.Rows, "hashes": hashes})
		return []audit.Operation{{Action: audit.ActionEraseAudit, Kind: "audit", Name: id, After: after}}, err
	})
	db.people.forget()
	if err == nil && done == (Erased{}) {
		err = fmt.Errorf("person %.128q: %w", asked.Person, ErrNotFound)
	}
	if err == nil && !asked.DryRun {
		db.notify() // keys have another name
	}
	return done, err
}

// anonymous is the actor column of a row that names a person, without the name:
// 41 is the length of "key:<id> ".
func anonymous(column string) string {
	return fmt.Sprintf("CASE WHEN %s = @name THEN '%s' WHEN %s THEN left(%[1]s, 41) || '%[2]s' ELSE %[1]s END", column, audit.Erased, byKeyNamed(column))
}

// byKeyNamed asks whether an actor is a key of the name.
func byKeyNamed(column string) string {
	return fmt.Sprintf("(starts_with(%s, 'key:') AND substr(%[1]s, 42) = @name)", column)
}

// holdsName asks whether a reason holds the name, and unsaid is it without.
func holdsName(column string) string {
	return fmt.Sprintf("position(lower(@name) IN lower(%s)) > 0", column)
}

func unsaid(column string) string {
	return fmt.Sprintf("CASE WHEN %s THEN '%s' ELSE %s END", holdsName(column), audit.Erased, column)
}

// named asks whether an actor is the person.
func named(column string) string {
	return fmt.Sprintf("(%s = @name OR %s)", column, byKeyNamed(column))
}
