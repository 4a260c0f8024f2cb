package main

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"
)

// verdict is what the checker found. It must find no problems.
type verdict struct {
	Acked      int   `json:"acked"`
	Refused    int   `json:"refused"`
	Unknown    int   `json:"unknown"`
	Lost       int   `json:"lost"`
	Duplicated int   `json:"duplicated"`
	Revisions  int64 `json:"revisions"`
	Entries    int64 `json:"entries"`
	// Invariants are those that were checked, and held but for the problems.
	Invariants []invariant `json:"invariants"`
	Problems   []string    `json:"problems,omitempty"`

	mayLose bool // what was acknowledged
}

// add takes in what was checked elsewhere.
func (v *verdict) add(checked []invariant) {
	v.Invariants = append([]invariant{
		{Name: "I1", Numbers: fmt.Sprintf("%d acknowledged changes are there, once; %d unknown", v.Acked-v.Lost, v.Unknown)},
		{Name: "I2", Numbers: fmt.Sprintf("%d revisions without a gap, %d audit entries verified and replayed", v.Revisions, v.Entries)},
	}, checked...)
	for _, i := range checked {
		for _, problem := range i.Problems {
			v.problem("%s: %s", i.Name, problem)
		}
	}
}

func (v *verdict) problem(format string, args ...any) {
	const shown = 20
	if len(v.Problems) < shown {
		v.Problems = append(v.Problems, fmt.Sprintf(format, args...))
	}
}

// committed is one chain's part of a change that is there.
type committed struct {
	Key      string
	Chain    string
	Revision int64 // 0 in the installation's
}

const selectCommitted = `
SELECT c.idempotency_key, e.environment, COALESCE(e.revision, 0)
FROM audit_entries e
JOIN changes c ON c.id = e.change_id
WHERE c.idempotency_key IS NOT NULL`

// numbers of an environment: as many revisions as it is at, but for those that
// a recovery says are lost; as many entries as its head says, each revision but
// the first made by one of them.
type numbers struct {
	Name                                                          string
	Revision, Seq, Lost, Revisions, Newest, Entries, Made, Strays int64
}

const selectNumbers = `
SELECT e.name, e.revision, e.audit_seq,
	(SELECT COALESCE(sum(last - first + 1), 0)::bigint FROM lost_revisions l WHERE l.environment = e.name),
	(SELECT count(*) FROM revisions r WHERE r.environment = e.name),
	(SELECT max(revision) FROM revisions r WHERE r.environment = e.name),
	(SELECT count(*) FROM audit_entries a WHERE a.environment = e.name),
	(SELECT count(DISTINCT revision) FROM audit_entries a WHERE a.environment = e.name),
	(SELECT count(*) FROM flag_versions v WHERE v.environment = e.name AND NOT EXISTS (
		SELECT FROM revisions r WHERE r.environment = v.environment AND r.revision = v.from_revision))
FROM environments e`

func query[T any](ctx context.Context, conn *pgx.Conn, sql string) ([]T, error) {
	rows, _ := conn.Query(ctx, sql) // the error comes out of Collect
	return pgx.CollectRows(rows, pgx.RowToStructByPos[T])
}

// check holds the database against the history: invariants I1 and I2.
func (c *Cluster) check(ctx context.Context) (v verdict, err error) {
	conn, err := pgx.Connect(ctx, c.url)
	if err != nil {
		return v, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	there, err := query[committed](ctx, conn, selectCommitted)
	if err != nil {
		return v, err
	}
	v.mayLose = c.mayLose
	v.checkChanges(c.History.outcomes(), there)
	counted, err := query[numbers](ctx, conn, selectNumbers)
	if err != nil {
		return v, err
	}
	v.checkNumbers(counted)
	db, err := c.open(ctx)
	if err != nil {
		return v, err
	}
	defer db.Close()
	for _, environment := range append([]string{""}, c.environments...) {
		found, err := db.VerifyAudit(ctx, environment, "")
		if err != nil {
			v.problem("%v", err)
		}
		v.Entries += found.Head.Seq
	}
	return v, nil
}

// checkChanges is I1: what was acknowledged is there, once, as it was
// acknowledged; what is there was acknowledged or is unknown, and is there whole.
func (v *verdict) checkChanges(outcomes map[string]event, there []committed) {
	byKey := map[string][]committed{}
	for _, c := range there {
		byKey[c.Key] = append(byKey[c.Key], c)
	}
	for _, key := range slices.Sorted(maps.Keys(outcomes)) {
		e, found := outcomes[key], byKey[key]
		delete(byKey, key)
		parts := map[string]int64{}
		for _, c := range found {
			parts[c.Chain] = c.Revision
		}
		switch e.Type {
		case "ok":
			v.Acked++
			want := map[string]int64{}
			for _, chain := range e.Chains {
				want[chain] = e.Revisions[chain]
			}
			if len(parts) == 0 {
				if v.Lost++; v.mayLose {
					continue
				}
				v.problem("%s was acknowledged at %v and is lost", key, want)
			} else if !maps.Equal(parts, want) {
				v.problem("%s was acknowledged at %v and is at %v", key, want, parts)
			}
		case "fail":
			v.Refused++
			if len(found) > 0 {
				v.problem("%s was refused and is there", key)
			}
		default:
			v.Unknown++
			if len(parts) > 0 && !slices.Equal(slices.Sorted(maps.Keys(parts)), slices.Sorted(slices.Values(e.Chains))) {
				v.problem("%s is there in part: %v of %q", key, parts, e.Chains)
			}
		}
		if len(found) > len(parts) {
			v.Duplicated++
			v.problem("%s is there %d times", key, len(found))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(byKey)) {
		v.problem("%s is there and nobody asked for it", key)
	}
}

// checkNumbers is I2, but for what the audit log says of itself.
func (v *verdict) checkNumbers(counted []numbers) {
	for _, n := range counted {
		v.Revisions += n.Revisions
		if n.Revisions != n.Revision-n.Lost || n.Newest != n.Revision {
			v.problem("%s is at revision %d and has %d, the newest of which is %d", n.Name, n.Revision, n.Revisions, n.Newest)
		}
		if n.Entries != n.Seq || n.Made != n.Revisions-1 {
			v.problem("%s has %d entries of %d, which made %d revisions of %d", n.Name, n.Entries, n.Seq, n.Made, n.Revisions-1)
		}
		if n.Strays > 0 {
			v.problem("%s has %d versions that no revision made", n.Name, n.Strays)
		}
	}
}
