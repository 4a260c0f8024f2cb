// Package auth says who calls and what they may do.
//
// The one idea: a call is allowed only if a table names it. The table maps each
// RPC, by the name its descriptor gives it, to an action and the kinds of key
// that may carry it out; what is not in the table is denied, so that a new RPC
// is closed until somebody decides who may use it. Which environment a call is
// about comes from the key wherever the key belongs to one, never from the
// request: see [Principal.Environment].
//
// A key may be restricted to some projects. It may then do only what knows how to
// leave out the others: evaluate and sync. To see that it does is the handlers'.
//
// Keys are verified against the store and remembered for at most a second, so
// that a revocation acts within a second on every replica, and so that the
// store is asked once a second for a key however many streams use it. While
// Postgres is away a key that was good goes on being good: streams and
// evaluation must not stop with the database. So does one that the replica was
// never shown: all keys are read every 30 s. Nobody then waits for an answer that
// does not come.
//
// The package knows API keys only. It makes none: the store does, because a key
// must be made before anybody can call a server.
package auth
