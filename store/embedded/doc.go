// Package embedded runs a real Postgres as a part of the process: the default
// database of "guidon dev" and the one that tests use.
//
// The one idea: it is the same Postgres that production runs, not another SQL
// dialect, and nobody has to set it up. The binaries of an installed
// PostgreSQL are found, a private cluster is made, and the server listens on a
// unix socket only, in a directory that nobody else can enter. It ends with
// the process that started it, and whatever a kill -9 left behind is dealt
// with at the next start.
//
// Postgres refuses to run as root, so a process of root starts it as an
// unprivileged account and gives that account the data and socket
// directories, nothing else.
//
// The package does not download Postgres, upgrade a cluster from one major
// version to another, or make backups.
package embedded
