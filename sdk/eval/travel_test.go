package eval_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/guidon-flags/guidon/sdk/eval"
)

// What travels must fit the header whatever its values are: names, and values
// with every byte escaped.
func TestTravelIsBounded(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		travel []eval.Travel
		want   int
	}{
		"nothing":    {nil, 0},
		"no limit":   {[]eval.Travel{{Attribute: "plan"}}, len("plan=&") + 3*40},
		"a limit":    {[]eval.Travel{{Attribute: "plan", MaxBytes: 16}}, len("plan=&") + 3*16},
		"an alias":   {[]eval.Travel{{Attribute: "subscription", As: "s", MaxBytes: 1}}, len("s=&") + 3},
		"two of all": {[]eval.Travel{{Attribute: "country", MaxBytes: 2}, {Attribute: "plan", As: "p"}}, len("country=&") + 3*2 + len("p=&") + 3*40},
	} {
		if got := (eval.Settings{Travel: tt.travel}).TravelBytes(); got != tt.want {
			t.Errorf("%s: TravelBytes() = %d, want %d", name, got, tt.want)
		}
	}

	settings := eval.Name{Kind: eval.KindSettings, Name: eval.SettingsName}
	list := func(n, maxBytes int) string {
		items := make([]string, n)
		for i := range items {
			items[i] = fmt.Sprintf(`{"attribute":"a%d","maxBytes":%d}`, i, maxBytes)
		}
		return `{"travel":[` + strings.Join(items, ",") + `]}`
	}
	if err := compile(t, settingsRow(t, list(8, 41))).Validate(settings); err != nil { // 8 × (4 + 123) = 1016
		t.Errorf("what just fits: %v", err)
	}
	problems := problemsOf(t, compile(t, settingsRow(t, list(8, 42))), settings)
	if len(problems) != 1 || problems[0].Path != "$.travel" || !strings.Contains(problems[0].Message, "1040 bytes of the header, 1024 are allowed") ||
		!strings.Contains(problems[0].Message, "a0 130, a1 130") {
		t.Errorf("what does not: %v, want what it takes and of what", problems)
	}
}
