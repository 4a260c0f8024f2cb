package eval_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/guidon-flags/guidon/sdk/eval"
)

// TestFlagBytes compares what flags say of themselves with what the heap says.
// It runs alone: other tests would be counted with it.
func TestFlagBytes(t *testing.T) {
	several := func(n int, format string) string {
		items := make([]string, n)
		for i := range items {
			items[i] = fmt.Sprintf(format, i)
		}
		return strings.Join(items, ",")
	}
	heap := func() int {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	segment := `{"segment":{"in":[{"var":"u"},[` + several(1000, `"u%d"`) + `]]},"guidon":{}}`
	for name, c := range map[string]struct{ targeting, guidon string }{
		"no targeting":   {"{}", ""},
		"ten texts":      {`{"if":[{"in":[{"var":"u"},[` + several(10, `"user-%d"`) + `]]},"on","off"]}`, ""},
		"50,000 texts":   {`{"if":[{"in":[{"var":"u"},[` + several(50_000, `"u%d"`) + `]]},"on","off"]}`, ""},
		"50,000 numbers": {`{"if":[{"in":[{"var":"u"},[` + several(50_000, `%d`) + `]]},"on","off"]}`, ""},
		"a long text":    {`{"if":[{"==":[{"var":"u"},"` + strings.Repeat("x", 100_000) + `"]},"on","off"]}`, ""},
		"100 rules":      {`{"if":[` + several(100, `{"==":[{"var":"a"},%d]},"on"`) + `,"off"]}`, ""},
		"100 conditions": {`{"if":[{"and":[` + several(100, `{"<":[{"var":"a"},%d]}`) + `]},"on","off"]}`, ""},
		"a segment":      {`{"if":[{"$ref":"s"},"on","off"]}`, ""},
		"a requirement":  {`{}`, `"requires":[{"flag":"b","variants":["on"]}]`},
	} {
		definition := `{"flag":{"defaultVariant":"on","state":"ENABLED","targeting":` + c.targeting + `,"variants":{"off":false,"on":true}},"guidon":{%s}}`
		rows := func() []eval.Row {
			return []eval.Row{
				{Kind: eval.KindFlag, Name: "a", From: 1, Document: fmt.Appendf(nil, definition, c.guidon)},
				{Kind: eval.KindFlag, Name: "b", From: 1, Document: fmt.Appendf(nil, definition, "")},
				{Kind: eval.KindSegment, Name: "s", From: 1, Document: []byte(segment)},
			}
		}
		flags := make([]*eval.Flag, max(3, min(20_000/len(definition), 100)))
		before := heap()
		for i := range flags {
			flags[i] = compile(t, rows()...).Flag("a")
			if err := flags[i].Err(); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		own := len(flags[0].Row().Document)
		kept := (heap() - before) / len(flags)
		says := flags[0].Bytes()
		t.Logf("%s: a flag of %d bytes keeps %d, and says %d", name, own, kept, says)
		if kept > says*5/4 || kept < says/3 {
			t.Errorf("%s: a flag of %d bytes keeps %d, and says %d", name, own, kept, says)
		}
		runtime.KeepAlive(flags)
	}
}
