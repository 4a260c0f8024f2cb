// Package notary signs checkpoints of the audit log while the server runs, and
// keeps the newest of each chain at hand.
//
// The one idea: a checkpoint is worth what others remember of it. The notary
// makes one as soon as a thousand entries wait for it, or the oldest has waited
// for most of a minute; it writes it to the log of the server, which is
// collected elsewhere; each Sync stream begins with it, so that every SDK
// remembers it; and it is appended to a file, or sent to an object store or a
// webhook, where the operator wants that. Whoever then rewrites the log cannot
// do so unseen.
//
// Any number of replicas do this at once. What they sign for one size is the
// same, and the database keeps the first.
package notary
