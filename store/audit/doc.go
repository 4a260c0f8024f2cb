// Package audit is the hash chain of the audit log as a pure library.
//
// The one idea: an entry's hash covers its scope, its number, the hash of the
// entry before it and the exact bytes of its payload, so that nobody can
// change, drop, insert or reorder entries without breaking every hash after
// the place. What was hashed is what is stored: payloads are bytes in
// canonical JSON (RFC 8785), never re-encoded on the way.
//
// There is one chain per environment and one for the installation, whose
// scope is the empty string. The package does no I/O and reads no clock.
//
// A chain alone does not notice that its tail was cut off, nor that someone
// with full power over the database rewrote it from the beginning; that takes
// a copy of a [Head] kept elsewhere.
package audit
