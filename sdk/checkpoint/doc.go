// Package checkpoint is what the two ends of an audit log's checkpoints agree
// on: their text, their signature, and the proof that a newer one extends an
// older one.
//
// The one idea: whoever remembers a checkpoint can hold the log to it. The
// entries of a chain are the leaves of a Merkle tree (RFC 6962); a checkpoint
// is the tree's size and root, signed with the installation's Ed25519 key in
// the form of golang.org/x/mod/sumdb/note. A log that was rewritten has no
// proof that leads from a remembered checkpoint to its newest one, however well
// its hashes fit together.
//
// The package does no I/O and reads no clock. store/audit grows the trees, and
// SDKs, which do not link it, check what they are shown.
package checkpoint
