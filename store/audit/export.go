package audit

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/guidon-flags/guidon/sdk/checkpoint"
)

// An export is lines of JSON: a header, then entries and, in their places
// between them, checkpoints, and at the end how far the chain goes. Each line
// has one form only, to the byte, so that nothing in a file can be changed
// unseen; a payload stands in its line as it was hashed.

// exportFormat names the form of the file in its first line.
const exportFormat = "guidon.audit.v1"

// maxLine bounds a line: the documents of the largest change set, before and
// after.
const maxLine = 128 << 20

// Header is the first line of an export.
type Header struct {
	Format string `json:"format"`
	// Scope is the environment; empty for the installation.
	Scope string `json:"scope"`
	// Verifier is the public key of the checkpoints; whoever verifies should
	// know it from elsewhere. Empty if there are none.
	Verifier string `json:"verifier"`
	// Seq, Hash and Edge are where the export begins: zero unless entries were
	// dropped before.
	Seq  int64  `json:"seq"`
	Hash string `json:"hash"`
	Edge []byte `json:"edge"`
}

// NewHeader makes the header of an export that begins at start.
func NewHeader(scope, verifier string, start Start) Header {
	return Header{exportFormat, scope, verifier, start.Head.Seq, start.Head.Hash.String(), append([]byte{}, start.Tree.Edge()...)}
}

// Start is where the export begins.
func (h Header) Start() (Start, error) {
	hash, err := parseHash(h.Hash)
	if err != nil {
		return Start{}, err
	}
	tree, err := NewTree(h.Seq, h.Edge)
	return Start{Head{h.Seq, hash}, tree}, err
}

type entryLine struct {
	Seq     int64           `json:"seq"`
	Prev    string          `json:"prev"`
	Hash    string          `json:"hash"`
	Texts   []textMember    `json:"texts"`
	Payload json.RawMessage `json:"payload"`
}

// textMember is a [Text] in the line of an entry.
type textMember struct {
	Salt string `json:"salt"`
	Text string `json:"text"`
}

type checkpointLine struct {
	Checkpoint string `json:"checkpoint"`
}

type endLine struct {
	End int64 `json:"end"`
	// Head is the hash of the last entry.
	Head string `json:"head"`
}

// AppendHeader appends the first line of an export.
func AppendHeader(b []byte, h Header) []byte { return appendLine(b, h) }

// AppendEntry appends the line of an entry.
func AppendEntry(b []byte, e Entry) []byte {
	// By hand: the encoder would compact the payload, and compare it to no use.
	b = append(b, `{"seq":`...)
	b = strconv.AppendInt(b, e.Seq, 10)
	b = append(b, `,"prev":"`...)
	b = hex.AppendEncode(b, e.Prev[:])
	b = append(b, `","hash":"`...)
	b = hex.AppendEncode(b, e.Hash[:])
	b = append(b, '"')
	if len(e.Texts) > 0 {
		texts := make([]textMember, len(e.Texts))
		for i, t := range e.Texts {
			texts[i] = textMember{hex.EncodeToString(t.Salt[:]), t.Text}
		}
		b = append(b, `,"texts":`...)
		b = appendLine(b, texts)
		b = b[:len(b)-1]
	}
	b = append(b, `,"payload":`...)
	b = append(b, e.Payload...)
	return append(b, "}\n"...)
}

// AppendCheckpoint appends the line of a checkpoint.
func AppendCheckpoint(b []byte, note string) []byte { return appendLine(b, checkpointLine{note}) }

// AppendEnd appends the last line.
func AppendEnd(b []byte, head Head) []byte {
	return appendLine(b, endLine{head.Seq, head.Hash.String()})
}

func appendLine(b []byte, line any) []byte {
	out := bytes.NewBuffer(b)
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(line); err != nil {
		panic(err) // strings, bytes and numbers always encode
	}
	return out.Bytes()
}

// Export is an export that is being read. It is read once.
type Export struct {
	Header   Header
	lines    *bufio.Scanner
	verifier string
	start    Start
	matched  int
	covered  int64
}

// ReadExport reads the header of an export. Verifier is the key whose
// checkpoints count; empty takes the export's own word for it, which proves
// nothing against whoever wrote the file.
func ReadExport(r io.Reader, verifier string) (*Export, error) {
	x := &Export{lines: bufio.NewScanner(r)}
	x.lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	x.lines.Split(wholeLines)
	if !x.lines.Scan() {
		if err := x.lines.Err(); err != nil {
			return nil, x.broken(0, err.Error())
		}
		return nil, x.broken(0, "the export is empty")
	}
	line := x.lines.Bytes()
	if err := decodeLine(line, &x.Header); err != nil || !bytes.Equal(AppendHeader(nil, x.Header), line) {
		return nil, x.broken(0, "the first line is not the header of an export")
	}
	if x.Header.Format != exportFormat {
		return nil, fmt.Errorf("the export has the form %.64q, this program reads %q", x.Header.Format, exportFormat)
	}
	var err error
	if x.start, err = x.Header.Start(); err != nil {
		return nil, x.broken(0, "the header does not say where the chain begins")
	}
	x.verifier = x.Header.Verifier
	if verifier != "" {
		if verifier != x.Header.Verifier && x.Header.Verifier != "" {
			return nil, &CheckpointError{x.Header.Scope, 0, "the export names another key"}
		}
		x.verifier = verifier
	}
	return x, nil
}

// Verify verifies the export. known are checkpoints that the caller knows from
// elsewhere, signatures checked, by size: with one, everything that it covers
// is proven; see [Log.Verify].
func (x *Export) Verify(replay *Replay, known ...checkpoint.Checkpoint) (Verified, error) {
	l := Log{Scope: x.Header.Scope, Start: x.start, Entries: x.entries(), Replay: replay}
	l.Checkpoints = func(yield func(checkpoint.Checkpoint, error) bool) {
		for _, c := range known {
			if !yield(c, nil) {
				return
			}
		}
	}
	v, err := l.Verify()
	v.Checkpoints, v.Covered = v.Checkpoints+x.matched, max(v.Covered, x.covered)
	return v, err
}

// entries yields the entries, and holds the checkpoints between them against
// the tree.
func (x *Export) entries() iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		head, tree := x.start.Head, x.start.Tree
		for x.lines.Scan() {
			line := x.lines.Bytes()
			switch {
			case bytes.HasPrefix(line, []byte(`{"seq"`)):
				e, err := decodeEntry(line)
				if err != nil {
					yield(e, x.broken(head.Seq+1, err.Error()))
					return
				}
				e.Scope = x.Header.Scope
				if !yield(e, nil) {
					return
				}
				head = Head{e.Seq, e.Hash}
				tree.Add(e.Hash)
			case bytes.HasPrefix(line, []byte(`{"checkpoint"`)):
				if err := x.checkpoint(line, tree); err != nil {
					yield(Entry{}, err)
					return
				}
			default:
				if err := x.end(line, head); err != nil {
					yield(Entry{}, err)
				}
				return
			}
		}
		reason := "the export ends before its end"
		if err := x.lines.Err(); err != nil {
			reason = err.Error()
		}
		yield(Entry{}, x.broken(head.Seq+1, reason))
	}
}

func (x *Export) checkpoint(line []byte, tree Tree) error {
	var l checkpointLine
	if err := decodeLine(line, &l); err != nil || !bytes.Equal(AppendCheckpoint(nil, l.Checkpoint), line) {
		return x.broken(tree.Size()+1, "a line cannot be read")
	}
	c, err := checkpoint.Open(l.Checkpoint, x.verifier)
	if err != nil {
		return &CheckpointError{x.Header.Scope, tree.Size(), err.Error()}
	}
	switch {
	case !c.Of(x.Header.Scope):
		return &CheckpointError{x.Header.Scope, c.Size, "it is of another chain"}
	case c.Size != tree.Size():
		return &CheckpointError{x.Header.Scope, c.Size, fmt.Sprintf("it stands behind %d entries", tree.Size())}
	case c.Root != tree.Root():
		return &CheckpointError{x.Header.Scope, c.Size, "the entries are not those that it was made of"}
	}
	x.matched, x.covered = x.matched+1, c.Size
	return nil
}

func (x *Export) end(line []byte, head Head) error {
	var l endLine
	if err := decodeLine(line, &l); err != nil || !bytes.Equal(appendLine(nil, l), line) {
		return x.broken(head.Seq+1, "a line cannot be read")
	}
	if l.End != head.Seq || l.Head != head.Hash.String() {
		return x.broken(head.Seq+1, fmt.Sprintf("the export says that it ends at entry %d", l.End))
	}
	if x.lines.Scan() {
		return x.broken(head.Seq+1, "the export goes on behind its end")
	}
	return nil
}

func (x *Export) broken(seq int64, reason string) error {
	return &BrokenError{x.Header.Scope, seq, reason}
}

// wholeLines splits off lines with their ends; a last one without is an error.
func wholeLines(data []byte, atEOF bool) (int, []byte, error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i+1], nil
	}
	if atEOF && len(data) > 0 {
		return 0, nil, errors.New("the last line is cut short")
	}
	return 0, nil, nil
}

func decodeLine(line []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	return dec.Decode(into)
}

func decodeEntry(line []byte) (Entry, error) {
	var l entryLine
	if err := decodeLine(line, &l); err != nil {
		return Entry{}, errors.New("a line cannot be read")
	}
	e := Entry{Seq: l.Seq, Payload: l.Payload}
	var err, prevErr error
	e.Hash, err = parseHash(l.Hash)
	e.Prev, prevErr = parseHash(l.Prev)
	for _, t := range l.Texts {
		var salt [16]byte
		copy(salt[:], decodeHex(t.Salt)) // one that is not whole is written otherwise below
		e.Texts = append(e.Texts, Text{salt, t.Text})
	}
	if err != nil || prevErr != nil || !bytes.Equal(AppendEntry(nil, e), line) {
		return Entry{}, errors.New("a line cannot be read")
	}
	return e, nil
}

// decodeHex returns what can be read of hex.
func decodeHex(text string) []byte {
	raw, _ := hex.DecodeString(text)
	return raw
}

func parseHash(text string) (Hash, error) {
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != len(Hash{}) {
		return Hash{}, fmt.Errorf("%.80q is no hash", text)
	}
	return Hash(raw), nil
}

// csvColumns head an export for spreadsheets.
var csvColumns = []string{
	"environment", "sequence", "revision", "time", "actor", "action", "reason", "change_id", "correlation_id", "origin",
	"kind", "name", "operation", "before", "after", "hash",
}

// CSVHeader is the first line of an export as CSV.
func CSVHeader() []byte { return csvLine(csvColumns) }

// AppendCSV appends an entry as CSV: a line for each operation. It is for
// reading; only the other form can be verified. No cell is a formula to a
// spreadsheet.
func AppendCSV(b []byte, e Entry) ([]byte, error) {
	r, err := e.Record()
	if err != nil {
		return b, err
	}
	revision := ""
	if r.Revision != 0 {
		revision = strconv.FormatInt(r.Revision, 10)
	}
	for _, o := range r.Operations {
		cells := []string{
			r.Environment, strconv.FormatInt(e.Seq, 10), revision, r.Time.UTC().Format(time.RFC3339Nano), r.Actor, r.Action, r.Reason,
			r.Change, r.Correlation, r.Origin, o.Kind, o.Name, o.Action, string(o.Before), string(o.After), e.Hash.String(),
		}
		b = append(b, csvLine(cells)...)
	}
	return b, nil
}

func csvLine(cells []string) []byte {
	safe := make([]string, len(cells))
	for i, c := range cells {
		safe[i] = c
		if c != "" && strings.ContainsRune("=+-@\t\r\n|%", rune(c[0])) {
			safe[i] = "'" + c
		}
	}
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	_ = w.Write(safe) // a buffer takes everything
	w.Flush()
	return b.Bytes()
}
