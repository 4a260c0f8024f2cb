package main

import "testing"

func TestHealthURL(t *testing.T) {
	for _, c := range []struct{ named, listen, want string }{
		{"", "", "http://127.0.0.1:8080"},
		{"", "0.0.0.0:9000", "http://127.0.0.1:9000"},
		{"", ":9000", "http://127.0.0.1:9000"},
		{"", "[::]:9000", "http://127.0.0.1:9000"},
		{"", "10.0.0.7:9000", "http://10.0.0.7:9000"},
		{"", "nonsense", ""},
		{"https://flags.example/", "0.0.0.0:9000", "https://flags.example"},
		{"flags.example", "", ""},
	} {
		t.Setenv("GUIDON_LISTEN", c.listen)
		if got, err := healthURL(c.named); got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("healthURL(%q) with GUIDON_LISTEN=%q = %q, %v, want %q", c.named, c.listen, got, err, c.want)
		}
	}
}
