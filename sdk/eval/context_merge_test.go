package eval_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/guidon-flags/guidon/sdk/eval"
)

func TestContextFromMember(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		``:                             `{}`,
		`{}`:                           `{}`,
		`{"context":{}}`:               `{}`,
		`{"context":null,"extra":[1]}`: `{}`,
		"\t" + `{"z":1,"context":{"b":1,"a":{"c":[true]}},"y":{}}`: `{"a":{"c":[true]},"b":1}`,
		`{"context":{"a":1},"context":{"a":2}}`:                    `{"a":2}`,
	} {
		c, err := eval.ContextFromMember([]byte(body), "context")
		if err != nil {
			t.Errorf("ContextFromMember(%s): %v", body, err)
			continue
		}
		if got := string(c.AppendCanonical(nil)); got != want {
			t.Errorf("ContextFromMember(%s) = %s, want %s", body, got, want)
		}
	}
	for _, body := range []string{`{`, `[]`, `null`, `"x"`, `{"context":{}} x`, `{"context":` + strings.Repeat(`{"a":`, 40) + `1` + strings.Repeat(`}`, 41)} {
		if _, err := eval.ContextFromMember([]byte(body), "context"); !errors.Is(err, eval.ErrNotObject) {
			t.Errorf("ContextFromMember(%.40s): %v, want ErrNotObject", body, err)
		}
	}
	for _, body := range []string{`{"context":[]}`, `{"context":"x"}`, `{"context":{"a":[` + strings.Repeat("1,", 10_000) + `1]}}`} {
		if _, err := eval.ContextFromMember([]byte(body), "context"); err == nil || errors.Is(err, eval.ErrNotObject) {
			t.Errorf("ContextFromMember(%.40s): %v, want what is wrong with the context", body, err)
		}
	}
}

func TestContextMerge(t *testing.T) {
	t.Parallel()
	context := func(text string) *eval.Context {
		c, err := eval.ContextFromJSON([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	wide := `{"k01":1,"k02":1,"k03":1,"k04":1,"k05":1,"k06":1,"k07":1,"k08":1,"k09":1,"k10":1,"k11":1,"k12":1,"k13":1,"k14":1,"k15":1,"k16":1,"k17":1}`
	for _, c := range []struct{ under, over, want string }{
		{``, ``, `{}`},
		{`{"a":1}`, ``, `{"a":1}`},
		{``, `{"a":1}`, `{"a":1}`},
		{`{"a":1,"b":{"c":1}}`, `{"b":2,"d":3}`, `{"a":1,"b":2,"d":3}`},
		{wide, `{"k05":2,"k00":0}`, strings.Replace(strings.Replace(wide, `"k05":1`, `"k05":2`, 1), `{`, `{"k00":0,`, 1)},
	} {
		under := context(c.under)
		if got := string(under.Merge(context(c.over)).AppendCanonical(nil)); got != c.want {
			t.Errorf("%s under %s = %s, want %s", c.under, c.over, got, c.want)
		}
		if again := string(under.AppendCanonical(nil)); again != string(context(c.under).AppendCanonical(nil)) {
			t.Errorf("Merge changed %s to %s", c.under, again)
		}
	}
	var none *eval.Context
	if got := string(none.Merge(nil).AppendCanonical(nil)); got != `{}` {
		t.Errorf("nothing merged with nothing = %s", got)
	}
}
