// Package flagd answers flagd's own protocols, so that flagd's providers in any
// language work against Guidon unchanged: flagd.evaluation.v1 and v2, which
// evaluate here, and flagd.sync.v1, which hands out definitions.
//
// The one idea: nothing is decided here. What a request sees is settled by
// server/hub/view, which OFREP shares; this package says it in flagd's words. Where
// those differ between v1 and v2 (the caller's default is an error in v1 and an
// absent value in v2) the difference stands in v1.go and v2.go and nowhere else.
//
// Providers keep STATIC answers by flag key alone. So what used a pin is never
// STATIC; it is PINNED. Of the errors of an evaluation GENERAL is INTERNAL, for
// the UNKNOWN that flagd uses is what its providers retry for seconds.
//
// An event stream subscribes before it says that it is ready, so that no change
// falls between. A slow reader skips states; it never sees them out of order.
//
// Sync knows no pins: it hands out definitions, and who evaluates them itself
// follows the header itself.
package flagd
