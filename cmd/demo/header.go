package main

import (
	"net/url"
	"strconv"
	"strings"
	"time"
)

// A Part is one parameter of a guidon header, for people to read.
type Part struct {
	// Text is the part as sent. The parts of a header joined are its value.
	Text string `json:"text"`
	// Name is a letter, or "version".
	Name string `json:"name"`
	// Means says what the part is for; Value what it holds here.
	Means string `json:"means"`
	Value string `json:"value"`
}

var meanings = map[string]string{
	"version": "version of the format",
	"c":       "correlation ID: one per request, in every log",
	"o":       "this root: one start of a request, whoever chose the correlation ID",
	"e":       "environment",
	"r":       "the pin: every hop evaluates at this revision",
	"k":       "newest emergency that is known on the way here",
	"t":       "the root’s clock: the only now of this request",
	"u":       "targeting key: whom the request is for",
	"a":       "attributes that targeting may read on every hop",
	"d":       "what cannot be computed again further down, and so was decided above",
	"i":       "which key signed",
	"s":       "signature: HMAC-SHA256 over all before it, cut to 128 bits",
}

// headerParts takes a guidon header apart. It explains and does not judge:
// whether the header is well formed and well signed is sdk/propagate's word.
func headerParts(value string) []Part {
	parts := []Part{}
	// No parameter holds a semicolon: the grammar escapes it everywhere.
	for i, text := range strings.Split(value, ";") {
		if value == "" {
			break
		}
		if i == 0 {
			parts = append(parts, Part{Text: text, Name: "version", Means: meanings["version"], Value: text})
			continue
		}
		name, v, _ := strings.Cut(text, "=")
		parts = append(parts, Part{Text: ";" + text, Name: name, Means: meanings[name], Value: headerValue(name, v)})
	}
	return parts
}

func headerValue(name, v string) string {
	switch name {
	case "t":
		if unix, err := strconv.ParseInt(v, 10, 64); err == nil {
			return time.Unix(unix, 0).UTC().Format(time.RFC3339)
		}
	case "s":
		return strings.Trim(v, ":")
	}
	v = strings.Trim(v, `"`)
	switch name {
	case "a":
		v = strings.ReplaceAll(v, "&", ", ")
	case "d":
		v = strings.ReplaceAll(v, " ", ", ")
	}
	if plain, err := url.PathUnescape(v); err == nil {
		return plain
	}
	return v
}
