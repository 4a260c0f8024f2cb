package feed

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"

	"google.golang.org/protobuf/proto"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/eval"
)

// MaxPayload bounds a snapshot or delta, compressed and decompressed alike, in
// bytes: some twenty times an environment of 10,000 large flags.
const MaxPayload = 256 << 20

// MaxMessage bounds one message of the server, in bytes. Snapshots come in
// chunks far below it; a delta comes in one.
const MaxMessage = 32 << 20

// malformedError says what in an event could not be understood.
type malformedError struct {
	err error
}

func malformed(format string, args ...any) error {
	return &malformedError{fmt.Errorf(format, args...)}
}

func (e *malformedError) Error() string { return "malformed event: " + e.err.Error() }
func (e *malformedError) Unwrap() error { return e.err }

// decodeRows reads the payload of a snapshot or delta.
func decodeRows(encoding string, payload []byte) (upserts []eval.Row, deletes []eval.Name, err error) {
	payload, err = decompress(encoding, payload, MaxPayload)
	if err != nil {
		return nil, nil, err
	}
	var rows guidonv1.Rows
	if err := proto.Unmarshal(payload, &rows); err != nil {
		return nil, nil, malformed("rows: %w", err)
	}
	upserts, err = evalRows(rows.GetUpserts())
	if err != nil {
		return nil, nil, err
	}
	deletes = make([]eval.Name, 0, len(rows.GetDeletes()))
	for _, name := range rows.GetDeletes() {
		kind, err := eval.ParseKind(name.GetKind())
		if err != nil {
			return nil, nil, malformed("delete of %q: %w", name.GetName(), err)
		}
		deletes = append(deletes, eval.Name{Kind: kind, Name: name.GetName()})
	}
	return upserts, deletes, nil
}

func evalRows(rows []*guidonv1.Row) ([]eval.Row, error) {
	decoded := make([]eval.Row, 0, len(rows))
	for _, row := range rows {
		kind, err := eval.ParseKind(row.GetKind())
		if err != nil {
			return nil, malformed("row %q: %w", row.GetName(), err)
		}
		decoded = append(decoded, eval.Row{Kind: kind, Name: row.GetName(), From: row.GetFromRevision(), Document: row.GetDocument()})
	}
	return decoded, nil
}

// within checks that rows were written in [from, to]. What a row says about its
// own age decides which pins it answers, and no digest covers it.
func within(rows []eval.Row, from, to int64) error {
	for _, row := range rows {
		if row.From < from || row.From > to {
			return malformed("%s %q says it is of revision %d, outside of %d to %d", row.Kind, row.Name, row.From, from, to)
		}
	}
	return nil
}

func decompress(encoding string, payload []byte, limit int64) ([]byte, error) {
	switch encoding {
	case "identity":
		return payload, nil
	case "gzip":
		unzip, err := gzip.NewReader(bytes.NewReader(payload))
		if err != nil {
			return nil, malformed("payload: %w", err)
		}
		plain, err := io.ReadAll(io.LimitReader(unzip, limit+1))
		if err != nil {
			return nil, malformed("payload: %w", err)
		}
		if int64(len(plain)) > limit {
			return nil, malformed("payload is larger than %d bytes", limit)
		}
		return plain, nil
	default:
		return nil, malformed("payload has the unknown encoding %q", encoding)
	}
}
