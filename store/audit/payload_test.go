package audit_test

import (
	"bytes"
	"encoding/json"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/guidon-flags/guidon/store/audit"
)

// TestPayloadIsCanonical holds the payload to that of the libraries that do it
// in two steps, for whatever records.
func TestPayloadIsCanonical(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := anyRecord().Draw(t, "record")
		raw, err := json.Marshal(r)
		var want []byte
		if err == nil {
			want, err = audit.Canonical(raw)
		}
		got, failed := r.Payload()
		if (failed != nil) != (err != nil) || !bytes.Equal(got, want) {
			t.Fatalf("Payload() = %s, %v\nwant %s, %v", got, failed, want, err)
		}
	})
}

func anyRecord() *rapid.Generator[audit.Record] {
	text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"", "ada", "<&>\u2028", "\xff\"", "\x7f\\\n"}))
	operation := rapid.Custom(func(t *rapid.T) audit.Operation {
		return audit.Operation{
			Action: text.Draw(t, "action"), Kind: text.Draw(t, "kind"), Name: text.Draw(t, "name"),
			Before: anyDocument().Draw(t, "before"), After: anyDocument().Draw(t, "after"),
		}
	})
	return rapid.Custom(func(t *rapid.T) audit.Record {
		return audit.Record{
			Actor: text.Draw(t, "actor"), PersonHash: text.Draw(t, "person"), ReasonHash: text.Draw(t, "hash"),
			Action: text.Draw(t, "action"), Reason: text.Draw(t, "reason"), Change: text.Draw(t, "change"),
			Environment: text.Draw(t, "environment"), Revision: rapid.Int64().Draw(t, "revision"), Correlation: text.Draw(t, "correlation"),
			Time:       time.Unix(rapid.Int64Range(-1<<38, 1<<38).Draw(t, "seconds"), rapid.Int64Range(0, 999_999_999).Draw(t, "nanoseconds")).UTC(),
			Operations: rapid.OneOf(rapid.Just[[]audit.Operation](nil), rapid.SliceOfN(operation, 0, 3)).Draw(t, "operations"),
		}
	})
}

// anyDocument is canonical, as nearly all are, or nearly so, or nothing at all.
func anyDocument() *rapid.Generator[json.RawMessage] {
	return rapid.Custom(func(t *rapid.T) json.RawMessage {
		raw, err := json.Marshal(anyValue(3).Draw(t, "value"))
		if err != nil {
			t.Fatal(err)
		}
		switch rapid.IntRange(0, 5).Draw(t, "form") {
		case 0:
			return nil
		case 1:
			return raw
		case 2:
			var out bytes.Buffer
			_ = json.Indent(&out, raw, "", " ")
			return out.Bytes()
		case 3: // most often no JSON any more
			at := rapid.IntRange(0, len(raw)-1).Draw(t, "at")
			raw[at] = rapid.SampledFrom([]byte(`{}[]",:0-.e\ tn`)).Draw(t, "byte")
			return raw
		}
		canonical, err := audit.Canonical(raw)
		if err != nil {
			t.Fatal(err)
		}
		return canonical
	})
}

func anyValue(depth int) *rapid.Generator[any] {
	scalar := rapid.OneOf(
		rapid.SampledFrom([]any{nil, true, false, 0, -1, 7, 1e21, 0.5, math.Copysign(0, -1), 999_999_999_999_999, 1_000_000_000_000_000, "", "ENABLED", "é", "\u2028", "😀"}),
		rapid.Map(rapid.Int64(), func(n int64) any { return n }),
		rapid.Map(rapid.String(), func(s string) any { return s }),
	)
	if depth == 0 {
		return scalar
	}
	return rapid.OneOf(
		scalar,
		rapid.Map(rapid.SliceOfN(anyValue(depth-1), 0, 3), func(items []any) any { return items }),
		rapid.Map(rapid.MapOfN(rapid.OneOf(rapid.StringMatching(`[a-z]{0,3}`), rapid.String()), anyValue(depth-1), 0, 3), func(m map[string]any) any { return m }),
	)
}
