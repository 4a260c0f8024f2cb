package storetest_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/storetest"
)

func TestEachTestHasItsOwnDatabase(t *testing.T) {
	t.Parallel()
	first := storetest.URL(t)
	db := storetest.New(t)
	if again := storetest.URL(t); again != first {
		t.Errorf("one test has two databases: %s and %s", first, again)
	}
	put := store.PutFlag{Environment: "staging", Key: "a", Definition: []byte(`{"state":"ENABLED","variants":{"on":true},"defaultVariant":"on"}`)}
	for range 2 {
		t.Run("", func(t *testing.T) {
			other := storetest.New(t)
			if storetest.URL(t) == "" || other == db {
				t.Error("two tests share a database")
			}
			applied, err := other.Apply(t.Context(), store.ChangeSet{Actor: "ada", Operations: []store.Operation{put}})
			if err != nil || applied.Revisions["staging"] != 2 {
				t.Errorf("Apply = %+v, %v, want revision 2 of an untouched database", applied, err)
			}
		})
	}
	revisions, err := db.Revisions(t.Context())
	if err != nil || revisions["staging"] != 1 {
		t.Errorf("Revisions = %v, %v, want none but the first", revisions, err)
	}
}

// child makes the test binary print the URL of a database and end without
// cleaning up.
const child = "GUIDON_TEST_STORETEST_CHILD"

func TestEachProcessHasItsOwnCluster(t *testing.T) {
	if os.Getenv(child) != "" {
		fmt.Println("url", storetest.URL(t))
		os.Exit(0)
	}
	t.Parallel()
	ours := storetest.URL(t)
	theirs := make([]string, 2)
	for i := range theirs { // the second finds what the first left
		cmd := exec.CommandContext(context.WithoutCancel(t.Context()), os.Args[0], "-test.run=^TestEachProcessHasItsOwnCluster$")
		cmd.Env = append(os.Environ(), child+"=1")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		_, theirs[i], _ = strings.Cut(strings.TrimSpace(string(out)), "url ")
	}
	host := func(url string) string { _, query, _ := strings.Cut(url, "?"); return query }
	if theirs[0] == "" || host(ours) == host(theirs[0]) {
		t.Errorf("two processes share a cluster: %s and %s", ours, theirs[0])
	}
	if !strings.Contains(theirs[1], "/test_1?") {
		t.Errorf("the second process got %s, want the first database", theirs[1])
	}
}
