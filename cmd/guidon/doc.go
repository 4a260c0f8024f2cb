// Command guidon is the whole of Guidon in one binary: the server (serve), a
// server with its own Postgres for a laptop or a test (dev), the schema
// (migrate), and a client for people and scripts (import, flag, eval, audit,
// environment, key, header).
//
// The one idea: the client commands use nothing but the public API. What the
// command line can do, any program can do, with the same permissions and the
// same audit entries. Only serve, dev and migrate touch a database, and key
// create if it is told to, so that an installation whose last key is lost can
// be opened again from the machine that holds its database.
//
// Results go to standard output, as a table for people or with --output json as
// one JSON document for scripts; everything else goes to standard error. Exit
// codes are 0 (done), 1 (failed), 2 (called wrongly; nothing was tried) and 3
// (conflict: the environment is no longer at the expected revision; nothing was
// changed).
//
// Environment variables are read here and in no other package.
package main
