// Package audit is the hash chain of the audit log as a pure library, with the
// Merkle trees over it, exports, and their verification.
//
// The one idea: an entry's hash covers its scope, its number, the hash of the
// entry before it and the exact bytes of its payload, so that nobody can
// change, drop, insert or reorder entries without breaking every hash after
// the place. What was hashed is what is stored: payloads are bytes in
// canonical JSON (RFC 8785), never re-encoded on the way.
//
// There is one chain per environment and one for the installation, whose
// scope is the empty string. The package does no I/O and reads no clock.
// Everything streams: [Log.Verify] and [Export.Verify] hold one entry at a time
// and the edge of one tree, however long a chain is.
//
// A chain alone does not notice that its tail was cut off, nor that someone
// with full power over the database rewrote it from the beginning. That takes
// something kept elsewhere: a checkpoint of package sdk/checkpoint, which is
// the signed root of the tree over a chain's entries.
//
// Names of people and reasons are in a payload as salted hashes only ([Text]).
// The texts go with an entry, in a database beside it and in an export in its
// line, and can be erased: what is left verifies as before. A text that is
// missing says nothing of why; one that was changed is found.
//
// # Why a tree for each chain and not one over all
//
// A tree over all chains would need one order over all of them, which no
// transaction knows: environments are written side by side, each under its own
// lock, and a second, common counter would be the one lock that all writers
// wait for. With a tree for each chain, leaf n is entry n+1, so that any replica
// can grow the tree later from what is there; an SDK, which belongs to one
// environment, learns nothing of how many changes others see; and each chain is
// dropped behind its own anchor. The price is that an entry of the installation
// and one of an environment are ordered by their times alone.
//
// # Why only the edge is kept
//
// RFC 6962 logs store every inner node. A checkpoint keeps the edge of its tree
// instead, some dozen hashes; a node that a proof needs is on the edge of some
// checkpoint if there is one for each thousand entries, and else is made from
// the entries below it ([Source.Prove]).
package audit
