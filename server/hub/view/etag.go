package view

import "strings"

// Matches reports whether one of the tags in the lines of If-None-Match is tag,
// by the weak comparison of RFC 9110 §8.8.3.2: proxies that compress make tags
// weak.
func Matches(lines []string, tag string) bool {
	tag = strings.TrimPrefix(tag, "W/")
	for _, line := range lines {
		for have := range strings.SplitSeq(line, ",") {
			have = strings.TrimSpace(have)
			if strings.TrimPrefix(have, "W/") == tag || have == "*" {
				return true
			}
		}
	}
	return false
}
