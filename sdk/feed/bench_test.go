package feed

import (
	"context"
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/eval"
)

// BenchmarkApplyDelta is one changed flag of many: decode, compile, digest,
// look for what changed, swap. The floor beside it is one look at every flag.
func BenchmarkApplyDelta(b *testing.B) {
	for _, flags := range []int{10, 1_000, 10_000} {
		b.Run(fmt.Sprintf("flags=%d", flags), func(b *testing.B) {
			held, delta := oneOfMany(b, flags)
			f := New(Config{})
			s := stream{feed: f, begun: true}
			f.publish(held)
			b.ReportAllocs()
			for b.Loop() {
				f.snapshot.Store(held)
				if err := s.delta(context.Background(), delta); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("floor/flags=%d", flags), func(b *testing.B) {
			held, _ := oneOfMany(b, flags)
			for b.Loop() {
				for flag := range held.Flags() {
					if flag.EffectiveFrom() > 1 {
						b.Fatal("no flag is newer than revision 1")
					}
				}
			}
		})
	}
}

// oneOfMany is revision 1 with so many flags, and the delta to revision 2, which
// changes one.
func oneOfMany(b *testing.B, flags int) (*eval.Snapshot, *guidonv1.Delta) {
	b.Helper()
	row := func(i int, from int64, variant string) eval.Row {
		return eval.Row{Kind: eval.KindFlag, Name: fmt.Sprintf("flag-%05d", i), From: from, Document: fmt.Appendf(nil,
			`{"flag":{"defaultVariant":%q,"state":"ENABLED","targeting":{"if":[{"==":[{"var":"plan"},"gold"]},"on"]},"variants":{"off":false,"on":true}},`+
				`"guidon":{"kind":"release","project":"shop","scope":"request","type":"boolean"}}`, variant)}
	}
	rows := make([]eval.Row, 0, flags)
	for i := range flags {
		rows = append(rows, row(i, 1, "off"))
	}
	held, err := eval.Compile(1, rows)
	if err != nil {
		b.Fatal(err)
	}
	changed := row(flags/2, 2, "on")
	next, err := held.With(2, []eval.Row{changed}, nil)
	if err != nil {
		b.Fatal(err)
	}
	payload, err := proto.Marshal(&guidonv1.Rows{Upserts: []*guidonv1.Row{{
		Kind: "flag", Name: changed.Name, FromRevision: 2, Document: changed.Document,
	}}})
	if err != nil {
		b.Fatal(err)
	}
	return held, &guidonv1.Delta{FromRevision: 1, ToRevision: 2, Digest: next.Digest().String(), Encoding: "identity", Payload: payload}
}
