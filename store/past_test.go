package store_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/audit"
	"github.com/guidon-flags/guidon/store/storetest"
)

// reasoned is a change set that says why.
func reasoned(actor, why string, operations ...store.Operation) store.ChangeSet {
	cs := change(operations...)
	cs.Actor, cs.Reason = actor, why
	return cs
}

// shifted adds to the revisions that stand in braces.
func shifted(text string, by int64) string {
	return regexp.MustCompile(`\{\d+\}`).ReplaceAllStringFunc(text, func(n string) string {
		revision, _ := strconv.ParseInt(n[1:len(n)-1], 10, 64)
		return strconv.FormatInt(revision+by, 10)
	})
}

// TestForgedPastIsFound changes what pins, travel in time, reverts and the
// history read, behind the log's back.
func TestForgedPastIsFound(t *testing.T) {
	t.Parallel()
	forgeries := []struct{ statement, want string }{
		{`UPDATE flag_versions SET document = '{}' WHERE to_revision IS NOT NULL`, "is not what it made"},
		{`UPDATE flag_versions SET document = convert_to(replace(convert_from(document, 'UTF8'), 'true', 'false'), 'UTF8'), hash = sha256(convert_to(replace(convert_from(document, 'UTF8'), 'true', 'false'), 'UTF8'))
			WHERE name = 'a' AND from_revision = {2}`, "flag/a of revision {2} is not what it made"},
		{`UPDATE flag_versions SET hash = sha256('') WHERE name = 'a' AND from_revision = {2}`, "flag/a of revision {2} is not what it made"},
		{`UPDATE flag_versions SET to_revision = {5} WHERE name = 'a' AND from_revision = {2}`, "flag/a of revision {2} ends with revision {5}, and was changed by revision {4}"},
		{`UPDATE flag_versions SET to_revision = {6} WHERE name = 'b' AND kind = 'flag' AND to_revision IS NULL`, "flag/b"},
		{`UPDATE flag_versions SET to_revision = 99 WHERE name = 'b' AND kind = 'flag' AND to_revision IS NULL`, "is of a revision that the environment has not got to"},
		{`UPDATE flag_versions SET to_revision = NULL WHERE name = 'gone'`, "gone"},
		{`UPDATE flag_versions SET from_revision = {3} WHERE name = 'a' AND from_revision = {2}`, "flag/a"},
		{`DELETE FROM flag_versions WHERE name = 'a' AND from_revision = {2}`, "flag/a of revision {2} is not there"},
		{`INSERT INTO flag_versions SELECT environment, kind, 'x', {2}, {3}, document, hash, refers FROM flag_versions WHERE name = 'b' AND kind = 'flag' AND to_revision IS NULL`, "flag/x of revision {2} is there, and no entry made it"},
		{`INSERT INTO flag_versions SELECT environment, kind, 'x', {1}, {2}, document, hash, refers FROM flag_versions WHERE name = 'b' AND kind = 'flag' AND to_revision IS NULL`, "flag/x of revision {1} is there, and no entry made it"},
		{`INSERT INTO flag_versions SELECT environment, kind, 'x', 99, NULL, document, hash, refers FROM flag_versions WHERE name = 'b' AND kind = 'flag' AND to_revision IS NULL`, "flag/x is of a revision that the environment has not got to"},
		{`UPDATE revisions SET actor = 'evil', reason = 'forged'`, "of which another reason is stored"},
		{`UPDATE revisions SET actor = 'evil' WHERE revision = {3}`, "it made revision {3}, of which another actor is stored"},
		{`UPDATE revisions SET actor = 'erased' WHERE revision = {3}`, "it made revision {3}, of which another actor is stored"},
		{`UPDATE revisions SET reason = 'erased' WHERE revision = {3}`, "it made revision {3}, of which another reason is stored"},
		{`UPDATE revisions SET reason = 'she said so' WHERE revision = {5}`, "it made revision {5}, of which another reason is stored"},
		{`UPDATE revisions SET actor = 'key:00000000-0000-0000-0000-000000000000 erased' WHERE revision = {5}`, "it made revision {5}, of which another actor is stored"},
		{`UPDATE revisions SET created_at = created_at - interval '1 second' WHERE revision = {3}`, "it made revision {3}, of which another time is stored"},
		{`UPDATE revisions SET change_id = gen_random_uuid() WHERE revision = {3}`, "it made revision {3}, of which another change is stored"},
		{`UPDATE revisions SET change_id = gen_random_uuid() WHERE revision = {1}`, "revision {1} is not the environment as it was created"},
		{`DELETE FROM revisions WHERE revision = {3}`, "it made revision {3}, of which nobody is said to have made it"},
		{`DELETE FROM revisions WHERE revision = {1}`, "revision {1} is not the environment as it was created"},
		{`INSERT INTO revisions SELECT environment, 99, change_id, actor, reason, created_at FROM revisions WHERE revision = {3}`, "revision 99 is of a revision that the environment has not got to"},
		{`UPDATE environments SET revision = revision + 1 WHERE name = 'staging'`, "the environment is at revision"},
		{`UPDATE environments SET oldest = {5} WHERE name = 'staging'; DELETE FROM flag_versions WHERE name = 'a' AND to_revision = {5}`, "flag/a of revision {4} is not there"},
		{`UPDATE environments SET oldest = {5} WHERE name = 'staging'; DELETE FROM revisions WHERE revision = {3}`, "it made revision {3}, of which nobody"},
	}
	for _, dropped := range []bool{false, true} {
		t.Run(fmt.Sprintf("dropped=%t", dropped), func(t *testing.T) {
			t.Parallel()
			db := storetest.New(t)
			apply := func(cs store.ChangeSet) {
				t.Helper()
				if _, err := db.Apply(t.Context(), cs); err != nil {
					t.Fatal(err)
				}
			}
			if dropped { // the same again, behind an anchor
				apply(reasoned("ada", "", put("staging", "before", onOff)))
				apply(reasoned("ada", "", put("staging", "b", onOff)))
				apply(reasoned("ada", "", store.RemoveFlag{Environment: "staging", Key: "b"}))
				sign(t, db, "staging")
			}
			shift := chainOf(t, db, "staging").Revision - 1
			apply(reasoned("key:0192f0c1-a2b3-7c4d-8e9f-001122334455 Ada", "a start", put("staging", "a", onOff), put("staging", "gone", onOff)))
			apply(reasoned("key:0192f0c1-a2b3-7c4d-8e9f-001122334455 Ada", "more of it", put("staging", "b", onOff)))
			apply(reasoned("ada", "", store.SetState{Environment: "staging", Key: "a", State: "DISABLED"}))
			apply(reasoned("key:0192f0c1-a2b3-7c4d-8e9f-001122334455 Grace", "Grace wants it", store.SetState{Environment: "staging", Key: "a", State: "ENABLED"}))
			apply(reasoned("ada", "enough", store.RemoveFlag{Environment: "staging", Key: "gone"}, kill("b", "off")))
			if _, err := db.Erase(t.Context(), store.Erasure{Person: "Grace", Actor: "ada", Reason: "she asked"}); err != nil {
				t.Fatal(err)
			}
			if dropped {
				c, err := db.Droppable(t.Context(), "staging", time.Now().Add(time.Hour))
				if err != nil {
					t.Fatal(err)
				}
				if err := db.DropAudit(t.Context(), c, "ada", "tidy"); err != nil {
					t.Fatal(err)
				}
			}
			verify := func() error {
				_, err := db.VerifyAudit(t.Context(), "staging", "")
				return err
			}
			if err := verify(); err != nil {
				t.Fatal(err)
			}
			conn, err := pgx.Connect(t.Context(), storetest.URL(t))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(context.WithoutCancel(t.Context()))
			execute := func(statement string) {
				t.Helper()
				if _, err := conn.Exec(t.Context(), statement); err != nil {
					t.Fatalf("%s: %v", statement, err)
				}
			}
			tables := []string{"flag_versions", "revisions", "environments"}
			for _, table := range tables {
				execute("CREATE TABLE kept_" + table + " AS TABLE " + table)
			}
			execute("SET session_replication_role = replica") // no foreign keys while tables are put back
			for _, f := range forgeries {
				if dropped && (strings.Contains(f.want, "as it was created") || strings.Contains(f.statement, "oldest")) {
					continue // of what is behind the anchor
				}
				statement, want := shifted(f.statement, shift), shifted(f.want, shift)
				execute(statement)
				err := verify()
				if state, ok := errors.AsType[*audit.StateError](err); !ok || !dropped && !strings.Contains(state.Error(), want) {
					t.Errorf("after %s: %v, want %q", statement, err, want)
				}
				for _, table := range tables {
					execute("DELETE FROM " + table + "; INSERT INTO " + table + " SELECT * FROM kept_" + table)
				}
			}
			if err := verify(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestVerifyWhileItIsWritten: changes, the collector and erasures that come while
// a chain is read are no forgeries.
func TestVerifyWhileItIsWritten(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	conn, err := pgx.Connect(t.Context(), storetest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	write := func(i int) error {
		person := fmt.Sprintf("Person %d", i/8)
		cs := reasoned("key:0192f0c1-a2b3-7c4d-8e9f-001122334455 "+person, "for "+person, put("staging", fmt.Sprintf("f%d", i%5), onOff))
		if i%2 == 1 {
			cs.Operations = []store.Operation{store.RemoveFlag{Environment: "staging", Key: fmt.Sprintf("f%d", (i-1)%5)}}
		}
		_, err := db.Apply(t.Context(), cs)
		if err == nil && i%8 == 7 {
			_, err = db.Erase(t.Context(), store.Erasure{Person: person, Actor: "ada", Reason: "asked by letter"})
		}
		if err == nil && i%4 == 3 {
			if _, err = conn.Exec(t.Context(), `UPDATE environments SET oldest = greatest(oldest, revision - 4)`); err == nil {
				_, err = db.Collect(t.Context())
			}
		}
		return err
	}
	for i := range 40 {
		if err := write(i); err != nil {
			t.Fatal(err)
		}
	}
	stop, done := make(chan struct{}), make(chan error)
	go func() {
		for i := 40; ; i++ {
			err := write(i)
			select {
			case <-stop:
				done <- err
				return
			default:
			}
			if err != nil {
				<-stop
				done <- err
				return
			}
		}
	}()
	for range 30 {
		if _, err := db.VerifyAudit(t.Context(), "staging", ""); err != nil {
			t.Error(err)
			break
		}
	}
	close(stop)
	if err := <-done; err != nil {
		t.Error(err)
	}
}
