package hub

import (
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/guidon-flags/guidon/sdk/eval"
)

// BenchmarkSyncDelta is the hub's part of one changed flag among many: compile,
// publish, and hand every watcher its event. It is encoded once, so watchers
// add little.
func BenchmarkSyncDelta(b *testing.B) {
	for _, flags := range []int{100, 10_000} {
		var rows []eval.Row
		for i := range flags {
			rows = append(rows, flagRow(fmt.Sprintf("flag%05d", i), 1, "ENABLED"))
		}
		s, err := eval.Compile(1, rows)
		if err != nil {
			b.Fatal(err)
		}
		for _, watchers := range []int{1, 1000} {
			b.Run(fmt.Sprintf("flags=%d/watchers=%d", flags, watchers), func(b *testing.B) {
				e := newEnvironment(New(Config{}), "staging")
				e.publish(newHead(s))
				wire := 0
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					old := e.Head()
					digest := old.snapshot.Digest().String()
					upserts := []eval.Row{flagRow("flag00007", old.Revision()+1, []string{"ENABLED", "DISABLED"}[i%2])}
					next, err := old.snapshot.With(old.Revision()+1, upserts, nil)
					if err != nil {
						b.Fatal(err)
					}
					e.publish(old.followedBy(next, upserts, nil, 1<<20))
					for range watchers {
						wire = proto.Size(e.Head().Since(old.Revision(), digest)[0])
					}
				}
				b.ReportMetric(float64(wire), "bytes/delta")
			})
		}
	}
}

// BenchmarkSnapshotFrames is what the first client without anything costs at
// each revision; the others share it.
func BenchmarkSnapshotFrames(b *testing.B) {
	var rows []eval.Row
	for i := range 10_000 {
		rows = append(rows, flagRow(fmt.Sprintf("flag%05d", i), 1, "ENABLED"))
	}
	s, err := eval.Compile(1, rows)
	if err != nil {
		b.Fatal(err)
	}
	wire := 0
	for b.Loop() {
		wire = 0
		for _, event := range newHead(s).Since(0, "") {
			wire += proto.Size(event)
		}
	}
	b.ReportMetric(float64(wire), "bytes/snapshot")
}
