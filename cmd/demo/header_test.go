package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestHeaderParts(t *testing.T) {
	t.Parallel()
	const value = `1;c="0199c0de0199c0de";o="0123456789abcdef";e="development";r=42;t=1790000000;u="ada%40shop";` +
		`a="country=CH&plan=pro";d="a.b:on^ c:off*41";i="k1";s=:AAAAAAAAAAAAAAAAAAAAAA==:`
	parts := headerParts(value)
	var joined strings.Builder
	got := map[string]string{}
	for _, p := range parts {
		joined.WriteString(p.Text)
		got[p.Name] = p.Value
		if p.Means == "" {
			t.Errorf("part %s is not explained", p.Name)
		}
	}
	if joined.String() != value {
		t.Errorf("parts joined are %s, want %s", joined.String(), value)
	}
	want := map[string]string{
		"version": "1", "c": "0199c0de0199c0de", "o": "0123456789abcdef", "e": "development", "r": "42",
		"t": "2026-09-21T14:13:20Z", "u": "ada@shop", "a": "country=CH, plan=pro", "d": "a.b:on^, c:off*41",
		"i": "k1", "s": "AAAAAAAAAAAAAAAAAAAAAA==",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("parts (-want +got):\n%s", diff)
	}
	if parts := headerParts(""); len(parts) != 0 {
		t.Errorf("headerParts of nothing = %v, want none", parts)
	}
	// Nonsense is shown as it is.
	if parts := headerParts(`1;t=soon;u="%zz"`); parts[1].Value != "soon" || parts[2].Value != "%zz" {
		t.Errorf("headerParts of nonsense = %v", parts)
	}
}
