package view_test

import (
	"testing"

	"github.com/guidon-flags/guidon/server/hub/view"
)

func TestCoding(t *testing.T) {
	t.Parallel()
	for accept, want := range map[string]string{
		"gzip, deflate, br, zstd": "zstd", "gzip": "gzip", "GZIP;Q=0.5": "gzip", "zstd;q=0, *": "gzip", "gzip, zstd;q=0": "gzip", "*": "zstd",
		"*;q=0": "", "": "identity", "br": "identity", "identity;q=0, br": "", "gzip;q=0": "identity", "gzip;q=x": "identity", "gzip ; q=1": "gzip",
	} {
		if got := view.Coding([]string{accept}, "zstd", "gzip"); got != want {
			t.Errorf("Coding(%q) = %q, want %q", accept, got, want)
		}
	}
	if got := view.Coding(nil, "zstd"); got != view.Identity {
		t.Errorf("without the header: %q", got)
	}
	if got := view.Coding([]string{"br", "gzip"}, "zstd", "gzip"); got != "gzip" {
		t.Errorf("in two lines: %q", got)
	}
}

func TestMatches(t *testing.T) {
	t.Parallel()
	for lines, want := range map[string]bool{
		`"a"`: true, `W/"a"`: true, `"b", "a"`: true, `*`: true, `"b"`: false, ``: false, `a`: false,
	} {
		for _, tag := range []string{`"a"`, `W/"a"`} {
			if got := view.Matches([]string{lines}, tag); got != want {
				t.Errorf("Matches(%s, %s) = %t, want %t", lines, tag, got, want)
			}
		}
	}
}
