package audit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"unicode/utf8"
)

// Payload encodes the record as canonical JSON (RFC 8785): its members in the
// order of their names.
func (r Record) Payload() ([]byte, error) {
	size := 512
	for _, o := range r.Operations {
		size += len(o.Before) + len(o.After) + len(o.Name) + 64
	}
	e := encoder{out: make([]byte, 0, size)}
	e.open('{')
	e.text("action", r.Action)
	e.some("actor", r.Actor)
	e.text("change", r.Change)
	e.some("correlation", r.Correlation)
	e.some("environment", r.Environment)
	e.operations(r.Operations)
	e.some("origin", r.Origin)
	e.some("origin_hash", r.OriginHash)
	e.some("person_hash", r.PersonHash)
	e.some("reason", r.Reason)
	e.some("reason_hash", r.ReasonHash)
	if r.Revision != 0 {
		e.document("revision", strconv.AppendInt(nil, r.Revision, 10))
	}
	at, err := r.Time.MarshalJSON()
	e.fail(err)
	e.document("time", at)
	e.close('}')
	if e.err != nil {
		return nil, fmt.Errorf("audit record: %w", e.err)
	}
	return e.out, nil
}

// encoder writes canonical JSON. What it is given that is canonical and plain, as
// nearly everything is, it copies; Canonical makes the rest so.
type encoder struct {
	out   []byte
	begun bool // something stands before in the object or list
	err   error
}

func (e *encoder) fail(err error) {
	if e.err == nil {
		e.err = err
	}
}

func (e *encoder) open(bracket byte) {
	e.out, e.begun = append(e.out, bracket), false
}

func (e *encoder) close(bracket byte) {
	e.out, e.begun = append(e.out, bracket), true
}

// next writes the comma before a member or an item.
func (e *encoder) next() {
	if e.begun {
		e.out = append(e.out, ',')
	}
	e.begun = true
}

// member writes a name of ours, which is plain.
func (e *encoder) member(name string) {
	e.next()
	e.out = append(append(append(e.out, '"'), name...), '"', ':')
}

func (e *encoder) operations(operations []Operation) {
	if operations == nil {
		e.document("operations", []byte("null"))
		return
	}
	e.member("operations")
	e.open('[')
	for _, o := range operations {
		e.next()
		e.open('{')
		e.text("action", o.Action)
		if len(o.After) > 0 {
			e.document("after", o.After)
		}
		if len(o.Before) > 0 {
			e.document("before", o.Before)
		}
		e.text("kind", o.Kind)
		e.text("name", o.Name)
		e.close('}')
	}
	e.close(']')
}

// some is text that is left out if it is empty.
func (e *encoder) some(name, text string) {
	if text != "" {
		e.text(name, text)
	}
}

func (e *encoder) text(name, text string) {
	e.member(name)
	if end, ok := plainText(text, 0); ok && end == len(text) && utf8.ValidString(text) {
		e.out = append(append(append(e.out, '"'), text...), '"')
		return
	}
	e.odd(text)
}

func (e *encoder) document(name string, document json.RawMessage) {
	e.member(name)
	if end, ok := plain(document, 0, 0); ok && end == len(document) && utf8.Valid(document) {
		e.out = append(e.out, document...)
		return
	}
	e.odd(document)
}

// odd writes what is not plain.
func (e *encoder) odd(v any) {
	raw, err := json.Marshal(v)
	if err == nil {
		raw, err = Canonical(raw)
	}
	e.fail(err)
	e.out = append(e.out, raw...)
}

// plain reports where the value at i of a document ends, if that is canonical
// and easily seen to be: no space, no escapes, members in order with names in
// ASCII, numbers of up to 15 digits without a fraction. That it is UTF-8 the
// caller has to see to.
func plain(s []byte, i, depth int) (end int, ok bool) {
	if i >= len(s) || depth > 100 {
		return i, false
	}
	switch s[i] {
	case '"':
		end, ok = plainText(s, i+1)
		return end + 1, ok && end < len(s)
	case '{', '[':
		return plainItems(s, i, depth)
	}
	for _, word := range [...]string{"true", "false", "null", "0"} {
		if len(s)-i >= len(word) && string(s[i:i+len(word)]) == word {
			return i + len(word), true
		}
	}
	digits := i
	if s[i] == '-' {
		digits++
	}
	for end = digits; end < len(s) && s[end] >= '0' && s[end] <= '9'; {
		end++
	}
	return end, end > digits && s[digits] != '0' && end-digits <= 15
}

// plainItems is plain for an object or a list. Where a word or a number goes on,
// with a fraction for one, there is neither comma nor bracket.
func plainItems(s []byte, i, depth int) (end int, ok bool) {
	object, closing := s[i] == '{', s[i]+2 // ']' is two after '[', '}' after '{'
	if i++; i < len(s) && s[i] == closing {
		return i + 1, true
	}
	var last []byte
	for ; ; i++ {
		if object {
			begin := i
			if i >= len(s) || s[i] != '"' {
				return i, false
			}
			i, ok = plainText(s, begin+1)
			if key := s[begin:i]; !ok || !ascii(key) || bytes.Compare(last, key) >= 0 {
				return i, false
			}
			last = s[begin:i]
			if i += 2; i > len(s) || s[i-1] != ':' {
				return i, false
			}
		}
		if i, ok = plain(s, i, depth+1); !ok || i >= len(s) {
			return i, false
		}
		switch s[i] {
		case closing:
			return i + 1, true
		case ',':
		default:
			return i, false
		}
	}
}

// plainText reports where the text ends that begins at i: at the next quote or
// the end, if nothing before has to be escaped.
func plainText[T string | []byte](s T, i int) (end int, ok bool) {
	for ; i < len(s) && s[i] != '"'; i++ {
		if s[i] < ' ' || s[i] == '\\' {
			return i, false
		}
	}
	return i, true
}

func ascii(s []byte) bool {
	return !slices.ContainsFunc(s, func(c byte) bool { return c >= utf8.RuneSelf })
}
