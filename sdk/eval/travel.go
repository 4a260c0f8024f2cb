package eval

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

const (
	// MaxTravelBytes is how long the attributes that travel may be in the header,
	// together and in the worst case: settings whose list may need more are not
	// written.
	MaxTravelBytes = 1024

	// DefaultTravelBytes is the limit of an attribute that names none: room for
	// the text of a UUID.
	DefaultTravelBytes = 40
)

// Travel is one attribute of the allow-list.
type Travel struct {
	Attribute string // a top-level name of the evaluation context
	As        string // its alias in the header; empty means Attribute itself
	MaxBytes  int    // see Limit; 0 means DefaultTravelBytes
}

// Wire is the attribute's name in the header.
func (t Travel) Wire() string { return cmp.Or(t.As, t.Attribute) }

// Limit is how long a value may be, as text in UTF-8 or as the shortest decimals
// of a number; a boolean always fits. A longer value stays at the root of the
// request, which then decides the flags that read it.
func (t Travel) Limit() int { return cmp.Or(t.MaxBytes, DefaultTravelBytes) }

// HeaderBytes is how long the attribute is in the header at most: its name, "=",
// the value, of which each byte may be escaped as "%XX", and "&" before the next.
// What numbers and booleans have instead, "~n" or "~b" before them and one "+"
// that is escaped, is no longer.
func (t Travel) HeaderBytes() int { return len(t.Wire()) + len("=&") + len("%XX")*t.Limit() }

// TravelBytes is how long the attributes that travel are in the header at most.
// [MaxTravelBytes] bounds it.
func (s Settings) TravelBytes() int {
	bytes := 0
	for _, t := range s.Travel {
		bytes += t.HeaderBytes()
	}
	return bytes
}

// travelSizes lists the attributes with what they may take, for people: the
// longest first, and not all of many.
func (s Settings) travelSizes() string {
	const most = 16
	list := slices.Clone(s.Travel)
	slices.SortStableFunc(list, func(a, b Travel) int { return cmp.Compare(b.HeaderBytes(), a.HeaderBytes()) })
	sizes := make([]string, 0, most)
	for _, t := range list[:min(len(list), most)] {
		sizes = append(sizes, fmt.Sprintf("%.64s %d", t.Attribute, t.HeaderBytes()))
	}
	if len(list) > most {
		sizes = append(sizes, fmt.Sprintf("and %d more", len(list)-most))
	}
	return strings.Join(sizes, ", ")
}
