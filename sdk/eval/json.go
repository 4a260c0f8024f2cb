package eval

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// placeError is an error at a JSON path, which grows from the right as the error
// travels outwards.
type placeError struct {
	path string // ".flags.a" or "[3]"; without the leading $
	text string
}

func (e *placeError) Error() string { return "$" + e.path + ": " + e.text }

func placed(path, format string, args ...any) *placeError {
	return &placeError{path: path, text: fmt.Sprintf(format, args...)}
}

// within puts the place of an error inside a larger document.
func within(path string, err error) error {
	if p, ok := err.(*placeError); ok { //nolint:errorlint // never wrapped on the way here
		return &placeError{path: path + p.path, text: p.text}
	}
	return &placeError{path: path, text: err.Error()}
}

// pathOf writes steps, strings for members and ints for items, as a JSON path.
func pathOf(steps ...any) string {
	var b strings.Builder
	for _, step := range steps {
		switch s := step.(type) {
		case int:
			fmt.Fprintf(&b, "[%d]", s)
		case string:
			if plainKey(s) {
				b.WriteString("." + s)
			} else {
				b.WriteString("[" + strconv.Quote(s) + "]")
			}
		}
	}
	return b.String()
}

func plainKey(s string) bool {
	for i := range len(s) {
		if c := s[i]; c != '_' && c != '$' && c != '-' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
			return false
		}
	}
	return s != ""
}

// maxDocumentDepth is how deep the JSON of a definition may nest. A rule of
// maxRuleDepth operators needs two levels each.
const maxDocumentDepth = 128

// parser reads JSON text (RFC 8259) into values without recursion beyond depth.
type parser struct {
	text  string
	at    int
	depth int // how much deeper it may nest

	// A strict parser refuses what has no canonical form (RFC 7493): a key given
	// twice, bytes that are no UTF-8, half a surrogate pair. A lenient one does
	// as encoding/json does: the last key stands, U+FFFD replaces the rest.
	strict bool
}

// parseStrict reads a definition.
func parseStrict(text []byte) (value, error) {
	p := parser{text: string(text), depth: maxDocumentDepth, strict: true}
	return p.document()
}

// parseLenient reads an evaluation context.
func parseLenient(text []byte) (value, error) {
	p := parser{text: string(text), depth: maxContextDepth}
	return p.document()
}

func (p *parser) document() (value, error) {
	v, err := p.value()
	if err != nil {
		return null, err
	}
	p.space()
	if p.at < len(p.text) {
		return null, p.unexpected("the end")
	}
	return v, nil
}

func (p *parser) value() (value, error) {
	p.space()
	if p.at == len(p.text) {
		return null, p.unexpected("a value")
	}
	switch c := p.text[p.at]; {
	case c == '{':
		return p.object()
	case c == '[':
		return p.list()
	case c == '"':
		s, err := p.string()
		return textValue(s), err
	case c == '-' || '0' <= c && c <= '9':
		return p.number()
	case p.word("true"):
		return booleanValue(true), nil
	case p.word("false"):
		return booleanValue(false), nil
	case p.word("null"):
		return null, nil
	default:
		return null, p.unexpected("a value")
	}
}

func (p *parser) word(w string) bool {
	if !strings.HasPrefix(p.text[p.at:], w) {
		return false
	}
	p.at += len(w)
	return true
}

func (p *parser) object() (value, error) {
	if p.depth--; p.depth < 0 {
		return null, placed("", "nests too deep")
	}
	defer func() { p.depth++ }()
	var fields []field
	for p.at++; ; p.at++ {
		p.space()
		if len(fields) == 0 && p.next('}') {
			break
		}
		if p.at == len(p.text) || p.text[p.at] != '"' {
			return null, p.unexpected("a key")
		}
		key, err := p.string()
		if err != nil {
			return null, err
		}
		if p.space(); !p.next(':') {
			return null, p.unexpected("':'")
		}
		p.at++
		v, err := p.value()
		if err != nil {
			return null, within(pathOf(key), err)
		}
		fields = append(fields, field{key, v})
		if p.space(); p.next('}') {
			break
		}
		if !p.next(',') {
			return null, p.unexpected("',' or '}'")
		}
	}
	p.at++
	v, repeated, twice := objectValue(fields)
	if twice && p.strict {
		return null, placed(pathOf(repeated), "stands twice in one object")
	}
	return v, nil
}

func (p *parser) list() (value, error) {
	if p.depth--; p.depth < 0 {
		return null, placed("", "nests too deep")
	}
	defer func() { p.depth++ }()
	var items []value
	for p.at++; ; p.at++ {
		if p.space(); len(items) == 0 && p.next(']') {
			break
		}
		v, err := p.value()
		if err != nil {
			return null, within(pathOf(len(items)), err)
		}
		items = append(items, v)
		if p.space(); p.next(']') {
			break
		}
		if !p.next(',') {
			return null, p.unexpected("',' or ']'")
		}
	}
	p.at++
	return listValue(items), nil
}

// number follows the grammar of RFC 8259, which is narrower than ParseFloat's.
func (p *parser) number() (value, error) {
	start := p.at
	if p.next('-') {
		p.at++
	}
	if p.next('0') {
		p.at++
	} else if p.digits() == 0 {
		return null, p.unexpected("a digit")
	}
	if p.next('.') {
		if p.at++; p.digits() == 0 {
			return null, p.unexpected("a digit")
		}
	}
	if p.next('e') || p.next('E') {
		if p.at++; p.next('+') || p.next('-') {
			p.at++
		}
		if p.digits() == 0 {
			return null, p.unexpected("a digit")
		}
	}
	f, err := strconv.ParseFloat(p.text[start:p.at], 64)
	if err != nil || math.IsInf(f, 0) {
		return null, placed("", "the number is beyond the range of float64")
	}
	return numberValue(f), nil
}

func (p *parser) digits() (n int) {
	for ; p.at < len(p.text) && '0' <= p.text[p.at] && p.text[p.at] <= '9'; p.at++ {
		n++
	}
	return n
}

// string returns a part of the text when nothing in it is escaped, so that most
// strings of a definition share its memory.
func (p *parser) string() (string, error) {
	p.at++
	start := p.at
	for p.at < len(p.text) {
		switch c := p.text[p.at]; {
		case c == '"':
			p.at++
			return p.text[start : p.at-1], nil
		case c == '\\' || c >= utf8.RuneSelf:
			return p.longString(start)
		case c < ' ':
			return "", p.unexpected("no control character in a string")
		}
		p.at++
	}
	return "", p.unexpected("the end of a string")
}

func (p *parser) longString(start int) (string, error) {
	var b strings.Builder
	b.WriteString(p.text[start:p.at])
	for p.at < len(p.text) {
		switch c := p.text[p.at]; {
		case c == '"':
			p.at++
			return b.String(), nil
		case c == '\\':
			r, err := p.escape()
			if err != nil {
				return "", err
			}
			b.WriteRune(r)
		case c < ' ':
			return "", p.unexpected("no control character in a string")
		default:
			r, size := utf8.DecodeRuneInString(p.text[p.at:])
			if r == utf8.RuneError && size == 1 && p.strict {
				return "", placed("", "invalid UTF-8 at offset %d", p.at)
			}
			b.WriteRune(r)
			p.at += size
		}
	}
	return "", p.unexpected("the end of a string")
}

const escaped, escapes = "\"\\/\b\f\n\r\t", `"\/bfnrt`

func (p *parser) escape() (rune, error) {
	if p.at++; p.at == len(p.text) {
		return 0, p.unexpected("the end of a string")
	}
	c := p.text[p.at]
	p.at++
	if i := strings.IndexByte(escapes, c); i >= 0 {
		return rune(escaped[i]), nil
	}
	if c != 'u' {
		p.at--
		return 0, p.unexpected("an escape")
	}
	r, err := p.hex()
	if err != nil || !utf16.IsSurrogate(r) {
		return r, err
	}
	if strings.HasPrefix(p.text[p.at:], `\u`) {
		before := p.at
		p.at += 2
		low, err := p.hex()
		if err != nil {
			return 0, err
		}
		if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
			return pair, nil
		}
		p.at = before // the second escape stands for itself
	}
	if p.strict {
		return 0, placed("", "half a surrogate pair before offset %d", p.at)
	}
	return utf8.RuneError, nil
}

func (p *parser) hex() (rune, error) {
	if p.at+4 > len(p.text) {
		return 0, p.unexpected("four hexadecimal digits")
	}
	n, err := strconv.ParseUint(p.text[p.at:p.at+4], 16, 16)
	if err != nil {
		return 0, p.unexpected("four hexadecimal digits")
	}
	p.at += 4
	return rune(n), nil
}

func (p *parser) next(c byte) bool { return p.at < len(p.text) && p.text[p.at] == c }

func (p *parser) space() {
	for p.at < len(p.text) {
		switch p.text[p.at] {
		case ' ', '\t', '\n', '\r':
			p.at++
		default:
			return
		}
	}
}

func (p *parser) unexpected(want string) error {
	if p.at >= len(p.text) {
		return placed("", "the document ends at offset %d where %s is expected", p.at, want)
	}
	r, _ := utf8.DecodeRuneInString(p.text[p.at:])
	return placed("", "%q at offset %d where %s is expected", r, p.at, want)
}
