package store_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/guidon-flags/guidon/migrations"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/embedded"
	"github.com/guidon-flags/guidon/store/storetest"
)

// flagsPerEnvironment is how many flags the writers switch in each.
const flagsPerEnvironment = 100

// BenchmarkWrite is change sets of one switch each, with fsync on and with all
// that Apply leaves behind, beside pgbench sending the bare statements of such
// a change over the same socket to the same cluster right before: floor-tx/s.
// Both keep the connections and statements they have.
func BenchmarkWrite(b *testing.B) {
	url := syncedCluster(b)
	for _, environments := range []int{1, 50} {
		for _, writers := range []int{1, 8, 32} {
			b.Run(fmt.Sprintf("environments=%d/writers=%d", environments, writers), func(b *testing.B) {
				db := openWith(b, url, writers)
				floor := pgbench(b, url, environments, writers)
				took := write(b, db, environments, writers)
				rate := float64(len(took)) / b.Elapsed().Seconds()
				slices.Sort(took)
				b.ReportMetric(rate, "tx/s")
				b.ReportMetric(floor, "floor-tx/s")
				b.ReportMetric(rate/floor, "x/floor")
				b.ReportMetric(took[len(took)/2].Seconds()*1e3, "p50-ms")
				b.ReportMetric(took[len(took)*99/100].Seconds()*1e3, "p99-ms")
			})
		}
	}
}

// write switches flags until b.N are switched, and returns how long each took.
func write(b *testing.B, db *store.DB, environments, writers int) []time.Duration {
	b.Helper()
	var n atomic.Int64
	took := make([]time.Duration, b.N)
	var running sync.WaitGroup
	b.ResetTimer()
	for range writers {
		running.Go(func() {
			for {
				i := n.Add(1) - 1
				if i >= int64(b.N) {
					return
				}
				began := time.Now()
				cs := change(store.PutFlag{
					Environment: environmentOf(i % int64(environments)),
					Key:         fmt.Sprintf("flag-%d", i/int64(environments)%flagsPerEnvironment),
					Definition:  fmt.Appendf(nil, `{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off","metadata":{"serial":%d}}`, i),
				})
				cs.IdempotencyKey = fmt.Sprintf("%d-%d", began.UnixNano(), i)
				if _, err := db.Apply(b.Context(), cs); err != nil {
					b.Error(err)
					return
				}
				took[i] = time.Since(began)
			}
		})
	}
	running.Wait()
	b.StopTimer()
	return took
}

func environmentOf(i int64) string { return fmt.Sprintf("e%d", i+1) }

// syncedCluster is a Postgres of its own that syncs to disk, with 50
// environments of a hundred flags.
func syncedCluster(b *testing.B) (url string) {
	b.Helper()
	dir, err := os.MkdirTemp("", "guidon-write-") //nolint:usetesting // b.TempDir is closed to the account that runs Postgres
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		b.Fatal(err)
	}
	server, err := embedded.Start(b.Context(), embedded.Config{Dir: dir})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := server.Stop(); err != nil {
			b.Error(err)
		}
	})
	url = server.DatabaseURL()
	if err := migrations.Up(b.Context(), url); err != nil {
		b.Fatal(err)
	}
	conn, err := pgx.Connect(b.Context(), url)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(b.Context()))
	for _, statement := range []string{
		`INSERT INTO environments (name, position) SELECT 'e' || i, 10 + i FROM generate_series(1, 50) i`,
		`INSERT INTO revisions (environment, revision, actor, reason, created_at)
			SELECT name, revision, 'guidon', 'environment created', created_at FROM environments WHERE position > 10`,
	} {
		if _, err := conn.Exec(b.Context(), statement); err != nil {
			b.Fatal(err)
		}
	}
	db := openWith(b, url, 1)
	var ops []store.Operation
	for e := range int64(50) {
		for f := range flagsPerEnvironment {
			ops = append(ops, put(environmentOf(e), fmt.Sprintf("flag-%d", f), onOff))
		}
	}
	if _, err := db.Apply(b.Context(), change(ops...)); err != nil {
		b.Fatal(err)
	}
	return url
}

func openWith(b *testing.B, url string, writers int) *store.DB {
	b.Helper()
	db, err := store.Open(b.Context(), store.Config{DatabaseURL: url, MasterKey: storetest.MasterKey, MaxWrites: int32(writers), LockTimeout: time.Minute})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(db.Close)
	return db
}

// bareChange is what one change set writes, with nothing to decide: the lock,
// the version before, the new one, revision, result, audit entry, head.
const bareChange = `
\set e random(1, %d)
\set f random(0, 99)
BEGIN;
SELECT revision AS rev, audit_seq AS seq FROM environments WHERE name = 'e' || :e::int FOR NO KEY UPDATE \gset
\startpipeline
UPDATE flag_versions SET to_revision = :rev::bigint + 1
WHERE environment = 'e' || :e::int AND kind = 'flag' AND name = 'bare-' || :f::int AND to_revision IS NULL;
INSERT INTO flag_versions (environment, kind, name, from_revision, document, hash, refers)
VALUES ('e' || :e::int, 'flag', 'bare-' || :f::int, :rev::bigint + 1, convert_to(repeat('x', 250), 'UTF8'), decode(repeat('00', 32), 'hex'), '{}');
INSERT INTO revisions (environment, revision, change_id, actor, reason, created_at)
VALUES ('e' || :e::int, :rev::bigint + 1, gen_random_uuid(), 'ada', 'because', now());
INSERT INTO changes (id, actor, idempotency_key, request_hash, reason, result, created_at)
VALUES (gen_random_uuid(), 'bare', gen_random_uuid(), decode(repeat('00', 32), 'hex'), 'because', convert_to(repeat('x', 300), 'UTF8'), now());
INSERT INTO audit_texts (hash, salt, person, text)
VALUES (decode(md5(random()::text) || md5(random()::text), 'hex'), decode(md5('salt'), 'hex'), false, 'because');
INSERT INTO audit_entries (environment, seq, prev_hash, entry_hash, payload, created_at, actor, actions, names, texts, change_id, correlation, revision)
VALUES ('e' || :e::int, :seq::bigint + 1, decode(repeat('00', 32), 'hex'), decode(repeat('00', 32), 'hex'), convert_to(repeat('x', 500), 'UTF8'),
	now(), 'ada', '{flag.put}', ARRAY['flag/bare-' || :f::int], '{}', gen_random_uuid(), '', :rev::bigint + 1);
UPDATE environments SET revision = :rev::bigint + 1, audit_seq = :seq::bigint + 1, updated_at = now() WHERE name = 'e' || :e::int;
COMMIT;
\endpipeline
`

var benchRate = regexp.MustCompile(`tps = ([0-9.]+)`)

// pgbench returns how many bare changes a second the cluster commits. The
// chains of the environments are broken afterwards, which Apply does not mind,
// and the flags it wrote are others than those that Apply switches.
func pgbench(b *testing.B, url string, environments, writers int) float64 {
	b.Helper()
	script := filepath.Join(b.TempDir(), "change.sql")
	if err := os.WriteFile(script, fmt.Appendf(nil, bareChange, environments), 0o600); err != nil {
		b.Fatal(err)
	}
	found, err := exec.LookPath("pgbench")
	if err != nil {
		installed, _ := filepath.Glob("/usr/lib/postgresql/*/bin/pgbench")
		if len(installed) == 0 {
			b.Fatalf("pgbench, of PostgreSQL's own package, is needed for the floor: %v", err)
		}
		found = installed[len(installed)-1]
	}
	seconds := strconv.Itoa(max(2, int(benchtime().Seconds())))
	command := exec.CommandContext(b.Context(), found, "-n", "-M", "prepared", "-c", strconv.Itoa(writers), "-j", "2", "-T", seconds, "-f", script, url)
	var out, complaint bytes.Buffer
	command.Stdout, command.Stderr = &out, &complaint
	if err := command.Run(); err != nil {
		b.Fatalf("pgbench: %v\n%s", err, complaint.String())
	}
	rate := benchRate.FindStringSubmatch(out.String())
	if rate == nil {
		b.Fatalf("pgbench said nothing of tps:\n%s", out.String())
	}
	tps, err := strconv.ParseFloat(rate[1], 64)
	if err != nil {
		b.Fatal(err)
	}
	return tps
}

// benchtime is how long each benchmark runs, if a duration was asked for.
func benchtime() time.Duration {
	for _, argument := range os.Args {
		if text, ok := strings.CutPrefix(argument, "-test.benchtime="); ok {
			if d, err := time.ParseDuration(text); err == nil {
				return d
			}
		}
	}
	return time.Second
}

// BenchmarkTenThousandFlags is an installation of 10,000 flags in each of
// three environments, with fsync on: what people and servers wait for.
func BenchmarkTenThousandFlags(b *testing.B) {
	db := openWith(b, syncedCluster(b), 8)
	environments := []string{"development", "staging", "production"}
	for _, environment := range environments {
		ops := make([]store.Operation, 10_000)
		for i := range ops {
			ops[i] = put(environment, fmt.Sprintf("many-%05d", i), onOff)
		}
		if _, err := db.Apply(b.Context(), change(ops...)); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("apply", func(b *testing.B) {
		took := make([]time.Duration, 0, 1<<10)
		for i := 0; b.Loop(); i++ {
			began := time.Now()
			op := store.SetState{Environment: environments[i%3], Key: fmt.Sprintf("many-%05d", i%10_000), State: []string{"DISABLED", "ENABLED"}[i/10_000%2]}
			if _, err := db.Apply(b.Context(), change(op)); err != nil {
				b.Fatal(err)
			}
			took = append(took, time.Since(began))
		}
		slices.Sort(took)
		b.ReportMetric(took[len(took)/2].Seconds()*1e3, "p50-ms")
		b.ReportMetric(took[len(took)*99/100].Seconds()*1e3, "p99-ms")
	})
	for name, read := range map[string]func() error{
		"list/page=100": func() error {
			_, _, err := db.Flags(b.Context(), "production", store.FlagFilter{}, store.Page{})
			return err
		},
		"list/page=1000": func() error {
			_, _, err := db.Flags(b.Context(), "production", store.FlagFilter{}, store.Page{Size: 1000})
			return err
		},
		"snapshot/at=2":    func() error { _, _, err := db.SnapshotRows(b.Context(), "production", 2); return err },
		"snapshot/at=head": func() error { _, _, err := db.SnapshotRows(b.Context(), "production", 0); return err },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := read(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
