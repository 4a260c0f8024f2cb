package propagate

import "unicode/utf8"

// The character classes of the grammar (propagation.md §1), one bit each, so
// that a token is checked with one table look-up per byte.
const (
	classCorrelation uint8 = 1 << iota // ALPHA DIGIT - _
	classHex                           // DIGIT a-f
	classEnvironment                   // LOWER DIGIT - _ .
	classAttribute                     // LOWER DIGIT _
	classKey                           // ALPHA DIGIT . _ -   (flag keys, variants, unescaped text)
	classKeyID                         // ALPHA DIGIT -
	classAny                           // everything a header of any version may consist of
)

var classes = func() (table [256]uint8) {
	set := func(class uint8, ranges ...string) {
		for _, r := range ranges {
			for c := int(r[0]); c <= int(r[len(r)-1]); c++ {
				table[c] |= class
			}
		}
	}
	set(classCorrelation, "AZ", "az", "09", "-", "_")
	set(classHex, "09", "af")
	set(classEnvironment, "az", "09", "-", "_", ".")
	set(classAttribute, "az", "09", "_")
	set(classKey, "AZ", "az", "09", ".", "_", "-")
	set(classKeyID, "AZ", "az", "09", "-")
	set(classAny, " ~")
	for _, c := range `,\` { // a comma is where a proxy joined two lines
		table[c] &^= classAny
	}
	return table
}()

const (
	minCorrelation, maxCorrelation = 16, 64
	rootLength                     = 16
	maxEnvironment                 = 40
	maxAttributeName               = 32
	maxFlagKey                     = 128
	maxVariant                     = 64
	maxKeyID                       = 16
	tagLength                      = 24 // 16 bytes in base64, padded
)

// within reports whether s has least to most bytes, all of the class.
func within(s string, class uint8, least, most int) bool {
	return len(s) >= least && len(s) <= most && span(s, class) == len(s)
}

// span returns how many bytes at the start of s belong to the class.
func span(s string, class uint8) int {
	for i := range len(s) {
		if classes[s[i]]&class == 0 {
			return i
		}
	}
	return len(s)
}

func validCorrelation(s string) bool {
	return within(s, classCorrelation, minCorrelation, maxCorrelation)
}
func validEnvironment(s string) bool   { return within(s, classEnvironment, 1, maxEnvironment) }
func validAttributeName(s string) bool { return within(s, classAttribute, 1, maxAttributeName) }
func validKeyID(s string) bool         { return within(s, classKeyID, 1, maxKeyID) }
func validVariant(s string) bool       { return within(s, classKey, 1, maxVariant) }
func validText(s string) bool          { return utf8.ValidString(s) }

func validFlagKey(s string) bool {
	return within(s, classKey, 1, maxFlagKey) && isLetter(s[0])
}

func isLetter(c byte) bool {
	return 'a' <= c|0x20 && c|0x20 <= 'z'
}
