// Package migrations holds the schema of the database as numbered SQL files
// and brings a database up to it.
//
// The one idea: the schema changes only when somebody asks for it. [Up] is
// called by "guidon migrate" and by "guidon dev"; a server only looks at
// [Status] and refuses a database outside the range it knows. A database whose
// last migration failed half-way is reported and never forced.
//
// Each file NNNN_verb_noun.up.sql has a .down.sql that undoes it, starts by
// bounding how long it waits for locks, and runs as one transaction.
package migrations
