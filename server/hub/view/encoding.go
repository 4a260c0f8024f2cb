package view

import (
	"strconv"
	"strings"
)

// Identity is the coding of what is sent as it is.
const Identity = "identity"

// Coding returns the first of the content codings offered that a client takes
// (RFC 9110 §12.5.3), by the lines of its Accept-Encoding, or else [Identity];
// empty if it does not take that either. A client that says nothing gets
// Identity, which everybody can read.
func Coding(lines []string, offered ...string) string {
	if len(lines) == 0 {
		return Identity
	}
	for _, coding := range append(offered, Identity) {
		if accepts(lines, coding) {
			return coding
		}
	}
	return ""
}

// accepts reports whether a client takes a coding. What it says of the coding
// itself stands above what it says of all others.
func accepts(lines []string, coding string) bool {
	other := coding == Identity
	for _, line := range lines {
		for part := range strings.SplitSeq(line, ",") {
			name, weight, weighed := strings.Cut(part, ";")
			taken := true
			if weighed {
				q, err := strconv.ParseFloat(strings.TrimPrefix(strings.ToLower(strings.TrimSpace(weight)), "q="), 64)
				taken = err == nil && q > 0
			}
			switch strings.ToLower(strings.TrimSpace(name)) {
			case coding:
				return taken
			case "*":
				other = taken
			}
		}
	}
	return other
}
