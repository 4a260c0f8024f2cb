package propagate

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"sync"
	"time"
)

// correlationName is the header that carries the correlation ID to services
// without Guidon and back to whoever asked.
const correlationName = "x-correlation-id"

// CorrelationID returns the correlation ID of the request that ctx belongs to,
// or "" if no State is in ctx.
func CorrelationID(ctx context.Context) string {
	if s := stateOf(ctx); s != nil {
		return s.correlation
	}
	return ""
}

// newIDs makes a correlation ID (a UUIDv7 as 32 hex digits, so that IDs sort
// by time) and a root (64 random bits as 16 hex digits).
func newIDs(now time.Time) (correlation, root string) {
	var raw [24]byte
	random := batches.Get().(*batch)
	random.read(raw[6:])
	batches.Put(random)
	var stamp [8]byte
	binary.BigEndian.PutUint64(stamp[:], uint64(now.UnixMilli())<<16)
	copy(raw[:6], stamp[:6])
	raw[6] = raw[6]&0x0f | 0x70
	raw[8] = raw[8]&0x3f | 0x80
	var text [48]byte
	hex.Encode(text[:], raw[:])
	ids := string(text[:])
	return ids[:32], ids[32:]
}

// batch is random bytes that were fetched together: fetching costs a system call.
type batch struct {
	bytes [512]byte
	used  int
}

var batches = sync.Pool{New: func() any { return &batch{used: len(batch{}.bytes)} }}

// read fills into, which is shorter than a batch, with bytes that nobody else
// was given.
func (b *batch) read(into []byte) {
	if len(b.bytes)-b.used < len(into) {
		_, _ = rand.Read(b.bytes[:]) // never fails: crypto/rand ends the process instead
		b.used = 0
	}
	given := b.bytes[b.used:][:len(into)]
	copy(into, given)
	clear(given)
	b.used += len(into)
}

// inboundCorrelation finds the ID a caller inside the zone sent. A header that
// is there but not valid is passed over whole: repairing it would let two IDs
// become one. refused reports that this happened.
func inboundCorrelation(c Carrier) (id string, refused bool) {
	for _, name := range [...]string{correlationName, "x-request-id"} {
		values := c.Values(name)
		if len(values) == 1 && validCorrelation(values[0]) {
			return values[0], refused
		}
		refused = refused || len(values) > 0
	}
	if values := c.Values("traceparent"); len(values) == 1 {
		return traceID(values[0]), refused
	}
	return "", refused
}

// traceID returns the trace-id of a W3C traceparent (version-traceid-parent-
// flags, lower-case hex), or "" if it is not valid.
func traceID(parent string) string {
	const zeros = "00000000000000000000000000000000"
	if len(parent) < 55 || parent[2] != '-' || parent[35] != '-' || parent[52] != '-' {
		return ""
	}
	version, trace, span, flags := parent[:2], parent[3:35], parent[36:52], parent[53:55]
	for _, part := range [...]string{version, trace, span, flags} {
		if !within(part, classHex, 2, 32) {
			return ""
		}
	}
	later := version != "00" // a later version may have more fields
	if version == "ff" || trace == zeros || span == zeros[:16] || len(parent) > 55 && (!later || !strings.HasPrefix(parent[55:], "-")) {
		return ""
	}
	return trace
}
