package propagate

import (
	"math"
	"strconv"
	"strings"
)

// Decode reads a header without checking its signature: for people and tools
// that look at one, never to follow it. A refused value gives a *HeaderError
// that names the place. The strings of the result share memory with value.
func Decode(value string) (Header, error) {
	signed, _, _, err := split(value)
	if err != nil {
		return Header{}, err
	}
	h, err := parse(signed)
	if err != nil {
		return Header{}, err
	}
	return h, nil
}

// split finds the signature and the key id from the end, where they have fixed
// places, without reading what lies before them.
func split(value string) (signed, kid, tag string, err *HeaderError) {
	if len(value) > MaxHeaderLength {
		return "", "", "", errOversize
	}
	if !strings.HasPrefix(value, "1;") {
		return "", "", "", otherVersion(value)
	}
	const mark = ";s=:"
	at := strings.LastIndex(value, mark)
	if at < 0 || len(value)-at != len(mark)+tagLength+1 || value[len(value)-1] != ':' {
		return "", "", "", errShape
	}
	signed, tag = value[:at], value[at+len(mark):len(value)-1]
	body, closed := strings.CutSuffix(signed, `"`)
	body = body[max(0, len(body)-maxKeyID-len(`;i="`)):]
	_, kid, found := strings.Cut(body, `;i="`)
	if !closed || !found || !validKeyID(kid) {
		return "", "", "", errShape
	}
	return signed, kid, tag, nil
}

// otherVersion tells a header of another format version, which a service
// further down may know, from rubbish.
func otherVersion(value string) *HeaderError {
	digits, _, found := strings.Cut(value, ";")
	if !found || len(digits) > 3 {
		return errNoFormat
	}
	if n, err := strconv.ParseUint(digits, 10, 16); err != nil || n < 2 || digits[0] == '0' || digits[0] == '+' {
		return errNoFormat
	}
	if span(value, classAny) != len(value) {
		return errAlphabet
	}
	return errVersion
}

// parse reads everything the signature covers: one pass, no backtracking.
func parse(signed string) (Header, *HeaderError) {
	var h Header
	p := parser{text: signed}
	p.expect(`1;c="`)
	h.Correlation = p.token("correlation ID", classCorrelation, minCorrelation, maxCorrelation)
	p.expect(`";o="`)
	h.Root = p.token("root", classHex, rootLength, rootLength)
	p.expect(`";e="`)
	h.Environment = p.token("environment", classEnvironment, 1, maxEnvironment)
	p.expect(`";r=`)
	h.Revision = p.number()
	if p.accept(";k=") {
		if h.Known = p.number(); h.Known == 0 {
			p.fail(NotCanonical, "k=0 is left out")
		}
	}
	p.expect(";t=")
	h.Time = p.number()
	if p.accept(`;u="`) {
		h.HasSubject = true
		h.Subject = p.escaped()
		p.expect(`"`)
	}
	if p.accept(`;a="`) {
		h.Attributes = p.attributes()
		p.expect(`"`)
	}
	if p.accept(`;d="`) {
		h.Decisions = p.decisions()
		p.expect(`"`)
	}
	p.expect(`;i="`)
	h.KeyID = p.token("key id", classKeyID, 1, maxKeyID)
	p.expect(`"`)
	if p.at != len(p.text) {
		p.fail(Malformed, "something follows the key id")
	}
	if p.err != nil {
		return Header{}, p.err
	}
	return h, nil
}

// parser reads text from at. After the first failure err is set and every
// further step does nothing.
type parser struct {
	text string
	at   int
	err  *HeaderError
}

func (p *parser) rest() string { return p.text[p.at:] }

func (p *parser) fail(outcome Outcome, detail string) {
	if p.err == nil {
		p.err = &HeaderError{outcome, p.at, detail}
		p.at = len(p.text)
	}
}

func (p *parser) accept(literal string) bool {
	if !strings.HasPrefix(p.rest(), literal) {
		return false
	}
	p.at += len(literal)
	return true
}

func (p *parser) expect(literal string) {
	if !p.accept(literal) {
		p.fail(Malformed, "expected "+literal)
	}
}

func (p *parser) token(what string, class uint8, least, most int) string {
	n := span(p.rest(), class)
	if n < least || n > most {
		p.fail(Malformed, "bad "+what)
		return ""
	}
	p.at += n
	return p.text[p.at-n : p.at]
}

func (p *parser) number() int64 {
	n, digits := int64(0), 0
	for rest := p.rest(); digits < len(rest) && '0' <= rest[digits] && rest[digits] <= '9'; digits++ {
		if digits == 15 || (digits == 1 && n == 0) {
			p.fail(Malformed, "number too long or with a leading zero")
			return 0
		}
		n = n*10 + int64(rest[digits]-'0')
	}
	if digits == 0 {
		p.fail(Malformed, "expected a number")
	}
	p.at += digits
	return n
}

// escaped reads text in which only ALPHA DIGIT - . _ stand for themselves. It
// copies only if something is escaped.
func (p *parser) escaped() string {
	n := span(p.rest(), classKey)
	if n == len(p.rest()) || p.text[p.at+n] != '%' {
		p.at += n
		return p.text[p.at-n : p.at]
	}
	plain := append(make([]byte, 0, n+32), p.text[p.at:p.at+n]...)
	for p.at += n; p.at < len(p.text); p.at++ {
		c := p.text[p.at]
		if classes[c]&classKey != 0 {
			plain = append(plain, c)
			continue
		}
		if c != '%' {
			break
		}
		if p.at+2 >= len(p.text) {
			p.fail(Malformed, "escape cut short")
			return ""
		}
		high, low := unhex(p.text[p.at+1]), unhex(p.text[p.at+2])
		if high > 15 || low > 15 {
			p.fail(Malformed, "escapes are two upper-case hex digits")
			return ""
		}
		if c = high<<4 | low; classes[c]&classKey != 0 {
			p.fail(NotCanonical, "escaped without need")
			return ""
		}
		plain = append(plain, c)
		p.at += 2
	}
	text := string(plain)
	if !validText(text) {
		p.fail(Malformed, "text is not UTF-8")
	}
	return text
}

func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 255
}

func (p *parser) attributes() []Attribute {
	list := make([]Attribute, 0, 1+strings.Count(p.untilQuote(), "&"))
	for more := true; more && p.err == nil; more = p.accept("&") {
		a := Attribute{Name: p.token("attribute name", classAttribute, 1, maxAttributeName)}
		if n := len(list); n > 0 && list[n-1].Name >= a.Name {
			p.fail(NotCanonical, "attributes are sorted and unique")
		}
		p.expect("=")
		switch {
		case p.accept("~b1"):
			a.kind, a.number = booleanAttribute, 1
		case p.accept("~b0"):
			a.kind = booleanAttribute
		case p.accept("~n"):
			a.kind, a.number = numberAttribute, p.decimal()
		default:
			a.text = p.escaped()
		}
		list = append(list, a)
	}
	return list
}

// decimal reads a number that must be written just as appendNumber writes it.
func (p *parser) decimal() float64 {
	start := p.at
	text := p.escaped()
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
		p.at = start
		p.fail(Malformed, "not a number")
		return 0
	}
	f += 0 // -0 is written 0
	var digits [32]byte
	if string(appendNumber(digits[:0], f)) != text {
		p.fail(NotCanonical, "a number is written in its shortest form")
	}
	return f
}

func (p *parser) decisions() []Decision {
	list := make([]Decision, 0, 1+strings.Count(p.untilQuote(), " "))
	for more := true; more && p.err == nil; more = p.accept(" ") {
		d := Decision{Flag: p.token("flag key", classKey, 1, maxFlagKey)}
		if p.err == nil && !isLetter(d.Flag[0]) {
			p.fail(Malformed, "a flag key starts with a letter")
		}
		if n := len(list); n > 0 && list[n-1].Flag >= d.Flag {
			p.fail(NotCanonical, "decisions are sorted by flag and unique")
		}
		p.expect(":")
		d.Variant = p.token("variant", classKey, 0, maxVariant)
		switch {
		case p.accept("^"):
			d.Mark = MarkRoot
		case p.accept("!"):
			d.Mark = MarkOverride
		case p.accept("*"):
			d.Mark, d.Emergency = MarkEmergency, p.number()
			if d.Emergency == 0 || d.Variant == "" {
				p.fail(Malformed, "an emergency has a revision and names a variant")
			}
		default:
			p.fail(Malformed, "expected a mark")
		}
		list = append(list, d)
	}
	return list
}

// untilQuote is the text up to the next quote: what a list may consist of.
func (p *parser) untilQuote() string {
	text, _, _ := strings.Cut(p.rest(), `"`)
	return text
}
