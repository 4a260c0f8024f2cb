package server

import (
	"math"
	"net/http"
	"time"

	"connectrpc.com/connect"

	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
)

const (
	// maxBody bounds a request, as sent and decompressed.
	maxBody = 1 << 20
	// maxChange bounds a change set; only admin keys get to send one.
	maxChange = 32 << 20
	// compressFrom is the answer from which compression pays: an evaluation is
	// smaller, and would take twice as long.
	compressFrom = 1 << 10
	// readTimeout bounds how long a request may take to arrive.
	readTimeout = 30 * time.Second
	// writeTimeout bounds how long an answer may take to be taken, from the
	// beginning of the request on: a call's own time, and as much again.
	writeTimeout = 2 * callTimeout
)

// bodyLimit is how long the body of a procedure may be.
func bodyLimit(procedure string) int {
	switch procedure {
	case guidonv1connect.ChangeServiceApplyProcedure, guidonv1connect.ChangeServiceDryRunProcedure:
		return maxChange
	}
	return maxBody
}

// procedureOptions are the options that depend on the procedure.
func procedureOptions(spec connect.Spec) []connect.HandlerOption {
	compress := compressFrom
	if spec.Procedure == guidonv1connect.SyncServiceSyncProcedure {
		compress = math.MaxInt // what Sync sends is compressed already, once for all streams
	}
	return []connect.HandlerOption{connect.WithReadMaxBytes(bodyLimit(spec.Procedure)), connect.WithCompressMinBytes(compress)}
}

// limit is the second wall around a body, beneath Connect.
func limit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, int64(bodyLimit(r.URL.Path)))
		next.ServeHTTP(w, r)
	})
}

// timed cuts off whoever sends or takes slowly, with a key or without. A stream
// sets deadlines of its own.
func timed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		control, now := http.NewResponseController(w), time.Now()
		_ = control.SetReadDeadline(now.Add(readTimeout))
		_ = control.SetWriteDeadline(now.Add(writeTimeout))
		next.ServeHTTP(w, r)
	})
}
