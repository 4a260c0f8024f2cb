package store_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/storetest"
)

// filled returns an installation with n flags in production.
func filled(b *testing.B, n int) *store.DB {
	b.Helper()
	db := storetest.New(b)
	ops := make([]store.Operation, n)
	for i := range ops {
		ops[i] = put("production", fmt.Sprintf("flag-%05d", i), onOff)
	}
	if _, err := db.Apply(b.Context(), change(ops...)); err != nil {
		b.Fatal(err)
	}
	return db
}

// BenchmarkApply is one switch of one flag; fsync is off, as in all tests.
func BenchmarkApply(b *testing.B) {
	for _, writers := range []int{1, 8} {
		b.Run(fmt.Sprintf("writers=%d/flags=10000", writers), func(b *testing.B) {
			db := filled(b, 10_000)
			var n atomic.Int64
			b.SetParallelism(writers)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					i := n.Add(1)
					state := []string{"ENABLED", "DISABLED"}[i/10_000%2^1]
					op := store.SetState{Environment: "production", Key: fmt.Sprintf("flag-%05d", i%10_000), State: state}
					if _, err := db.Apply(b.Context(), change(op)); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

func BenchmarkRead(b *testing.B) {
	db := filled(b, 10_000)
	for i := range 100 {
		if _, err := db.Apply(b.Context(), change(put("production", fmt.Sprintf("new-%d", i), onOff))); err != nil {
			b.Fatal(err)
		}
	}
	for name, read := range map[string]func() error{
		"snapshot=newest": func() error { _, _, err := db.SnapshotRows(b.Context(), "production", 0); return err },
		"snapshot=old":    func() error { _, _, err := db.SnapshotRows(b.Context(), "production", 50); return err },
		"delta=50":        func() error { _, _, err := db.Delta(b.Context(), "production", 50, 100); return err },
		"superseded":      func() error { _, _, _, err := db.Superseded(b.Context(), "production", "flag-00001", 50); return err },
		"flags=first": func() error {
			_, _, err := db.Flags(b.Context(), "production", store.FlagFilter{}, store.Page{})
			return err
		},
		"flags=query": func() error {
			_, _, err := db.Flags(b.Context(), "production", store.FlagFilter{Query: "9999"}, store.Page{})
			return err
		},
		"history": func() error {
			_, _, err := db.FlagHistory(b.Context(), "production", "new-1", store.Page{})
			return err
		},
		"audit": func() error {
			_, _, err := db.Audit(b.Context(), store.AuditFilter{Flag: "new-1"}, store.Page{})
			return err
		},
		"revisions": func() error { _, err := db.Revisions(b.Context()); return err },
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
