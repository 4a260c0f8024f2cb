package propagate_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/guidon-flags/guidon/sdk/propagate"
)

var update = flag.Bool("update", false, "write testdata anew")

// The vectors are for whoever writes the format in another language: every value
// is signed with a key that stands beside it.
type vectors struct {
	Comment string            `json:"comment"`
	Keys    map[string]string `json:"keys"` // 32 bytes in hex, by id
	Vectors []vector          `json:"vectors"`
}

type vector struct {
	Name    string         `json:"name"`
	Value   string         `json:"value"`
	Outcome string         `json:"outcome"`          // "verified", or why it is refused
	Header  *vectorContent `json:"header,omitempty"` // of a verified one
}

type vectorContent struct {
	Correlation string         `json:"c"`
	Root        string         `json:"o"`
	Environment string         `json:"e"`
	Revision    int64          `json:"r"`
	Known       int64          `json:"k,omitempty"`
	Time        int64          `json:"t"`
	Subject     *string        `json:"u,omitempty"`
	Attributes  map[string]any `json:"a,omitempty"`
	Decisions   []string       `json:"d,omitempty"` // flag, variant, mark, revision
	KeyID       string         `json:"i"`
}

func contentOf(h propagate.Header) *vectorContent {
	c := &vectorContent{Correlation: h.Correlation, Root: h.Root, Environment: h.Environment, Revision: h.Revision, Known: h.Known, Time: h.Time, KeyID: h.KeyID}
	if h.HasSubject {
		c.Subject = &h.Subject
	}
	for _, a := range h.Attributes {
		if c.Attributes == nil {
			c.Attributes = map[string]any{}
		}
		c.Attributes[a.Name] = a.Value()
	}
	for _, d := range h.Decisions {
		text := fmt.Sprintf("%s %s %c", d.Flag, d.Variant, d.Mark)
		if d.Mark == propagate.MarkEmergency {
			text += fmt.Sprintf(" %d", d.Emergency)
		}
		c.Decisions = append(c.Decisions, text)
	}
	return c
}

// madeVectors are the vectors from scratch: text that is signed apart from the
// code under test.
func madeVectors(t *testing.T) vectors {
	const head = `1;c="0123456789abcdef";o="0123456789abcdef";e="dev"`
	const tail = `;i="k1"`
	sample := signed(sampleSigned, testKey)
	v := vectors{
		Comment: "Guidon's header, format 1: see FORMAT.md beside this folder. Keys are published for tests only.",
		Keys:    map[string]string{"k1": hex.EncodeToString(testKey.Secret[:])},
	}
	keys := ring(t, testKey)
	add := func(name, value string) {
		h, err := keys.Verify(value)
		one := vector{Name: name, Value: value, Outcome: refusal(err).String()}
		if err == nil {
			one.Header = contentOf(h)
		}
		v.Vectors = append(v.Vectors, one)
	}
	for _, s := range [][2]string{
		{"typical", sampleSigned},
		{"shortest", head + `;r=0;t=0` + tail},
		{"every parameter", head + `;r=7;k=9;t=1;u="";a="a=&b=~b0&c=~b1&n=~n-1.5";d="a:on! b:off*9 c:^"` + tail},
		{"largest numbers", head + `;r=999999999999999;k=999999999999999;t=999999999999999` + tail},
		{"UTF-8 in the subject", head + `;r=1;t=1;u="J%C3%BCrgen%20%F0%9F%9A%A9"` + tail},
		{"a text that begins with a tilde", head + `;r=1;t=1;a="a=%7Eb1"` + tail},
		{"numbers with exponents", head + `;r=1;t=1;a="a=~n1e%2B21&b=~n1e-7"` + tail},
		{"emergencies", head + `;r=40;k=42;t=1;d="a:stop*41 b:off*42"` + tail},
		{"leading zero", head + `;r=01;t=1` + tail},
		{"sixteen digits", head + `;r=1000000000000000;t=1` + tail},
		{"negative", head + `;r=-1;t=1` + tail},
		{"k of zero", head + `;r=1;k=0;t=1` + tail},
		{"other order", head + `;t=1;r=1` + tail},
		{"parameter twice", head + `;r=1;t=1;u="a";u="b"` + tail},
		{"unknown parameter", head + `;r=1;t=1;z=1` + tail},
		{"space after a semicolon", head + `; r=1;t=1` + tail},
		{"attributes not sorted", head + `;r=1;t=1;a="b=1&a=1"` + tail},
		{"attribute twice", head + `;r=1;t=1;a="a=1&a=2"` + tail},
		{"decisions not sorted", head + `;r=1;t=1;d="b:on^ a:on^"` + tail},
		{"flag twice", head + `;r=1;t=1;d="a:on^ a:off!"` + tail},
		{"no mark", head + `;r=1;t=1;d="a:on"` + tail},
		{"emergency without a variant", head + `;r=1;t=1;d="a:*4"` + tail},
		{"escaped without need", head + `;r=1;t=1;u="%61"` + tail},
		{"lower-case escape", head + `;r=1;t=1;u="%c3%bc"` + tail},
		{"text that is not UTF-8", head + `;r=1;t=1;u="%FF"` + tail},
		{"a number not in its shortest form", head + `;r=1;t=1;a="a=~n1.50"` + tail},
		{"short correlation ID", `1;c="0123456789abcde";o="0123456789abcdef";e="dev";r=1;t=1` + tail},
		{"root in upper case", `1;c="0123456789abcdef";o="0123456789ABCDEF";e="dev";r=1;t=1` + tail},
	} {
		add(s[0], signed(s[1], testKey))
	}
	add("forged", signed(sampleSigned, propagate.Key{ID: "k1", Secret: [32]byte{9}}))
	add("another revision under the same signature", strings.Replace(sample, "r=1042", "r=1043", 1))
	add("unsigned", sampleSigned)
	add("signature cut", sample[:len(sample)-2]+":")
	add("something follows", sample+";x=1")
	add("two lines joined", sample+", "+sample)
	add("unknown key", strings.Replace(sample, `"k1"`, `"k9"`, 1))
	add("a later version", "2"+sample[1:])
	add("no version", sample[2:])
	add("longer than 4096 bytes", signed(strings.Replace(sampleSigned, "user-77", strings.Repeat("u", 4096), 1), testKey))
	add("an answer's emergencies (guidonseen) in the place of a header", seenOf(t))
	add("empty", "")
	return v
}

// seenOf is the value of an answer.
func seenOf(t *testing.T) string {
	w := shop(t)
	i := w.instance()
	p := newPropagator(t, i)
	ctx := received(t, p, pinnedAt(t, 1))
	w.kill(t, "pricing", "off", "false")
	i.catchUp()
	value, ok := p.Seen(ctx)
	if !ok {
		t.Fatal("nothing to tell")
	}
	return value
}

// TestVectors holds that the published vectors are what this code makes of them,
// and that what it reads it writes again to the byte.
func TestVectors(t *testing.T) {
	t.Parallel()
	const file = "testdata/header_vectors.json"
	made := madeVectors(t)
	text := new(bytes.Buffer)
	encoder := json.NewEncoder(text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(made); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(file, text.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	published, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(text.String(), string(published)); diff != "" {
		t.Errorf("%s is not what the code says; run with -update if that is meant (-code +file):\n%s", file, diff)
	}
	verified := 0
	for _, v := range made.Vectors {
		h, err := ring(t, testKey).Verify(v.Value)
		if err != nil {
			continue
		}
		verified++
		if again, err := propagate.Encode(h, testKey); again != v.Value || err != nil {
			t.Errorf("%s: written again as %q, %v", v.Name, again, err)
		}
	}
	if verified < 8 || len(made.Vectors)-verified < 20 {
		t.Errorf("%d of %d vectors are valid", verified, len(made.Vectors))
	}
}
