// Package store is the only package that speaks SQL. It keeps flags, their
// versions, the audit log and the keys of one installation in Postgres.
//
// The one idea: configuration is written in exactly one way, [DB.Apply], and
// every write is numbered. Apply locks the rows of the environments it
// touches, so that the revisions of an environment are 1, 2, 3 … in commit
// order, without gaps and for ever. Everything else is reading: a snapshot,
// the difference between two revisions, one flag as it was. Revision 1 is the
// environment as it was created, empty; 0 is never a revision and means
// "newest" where a revision is asked for.
//
// The package does not evaluate flags, keep snapshots in memory or decide who
// may do what; those are sdk/eval, server/hub and server/auth.
//
// # Why a row lock and not a sequence
//
// A sequence hands out numbers before commit, so a later commit can carry a
// smaller number and a reader that polls "greater than the last one" never
// sees it. A counter bumped under the row's lock becomes visible in the order
// it was taken. Locks are taken in one order: environments by name, then the
// head of the installation's audit chain.
//
// # Why change sets share a transaction
//
// Under its lock an environment takes one transaction at a time, so a commit's
// round trips and its wait for the disk would bound its changes. Small change
// sets that are asked for while others are carried out go together in the next
// transaction: each still has its own revision, audit entry, result and
// failure. See group.go for what may share one, line.go for who waits for whom.
//
// # Why the audit log has no partitions
//
// UNIQUE (environment, seq) is what makes a chain gap-free whoever writes it, and
// Postgres keeps no unique index over a table that is partitioned by time unless
// the time is part of it. So old entries go by number and not by month: 1,000 at a
// time, behind a signed checkpoint that becomes the anchor of what is left
// ([DB.DropAudit]). That takes longer than to drop a partition, and locks nothing:
// changes go on, and autovacuum gives the space to later entries.
//
// # Who owns which table
//
// One file reads and writes each table; a join lives with the owner of its
// result.
//
//	environments.go  environments
//	versions.go      flag_versions, revisions
//	flags.go         flags, projects
//	changes.go       changes
//	audit.go         audit_entries, installation
//	texts.go         audit_texts
//	checkpoints.go   audit_checkpoints, checkpoint_keys
//	recover.go       installation, lost_revisions
//	retention.go     audit_checkpoints, audit_entries
//	keys.go          api_keys
//	propagation.go   propagation_keys
//	fleet.go         fleet
//	overrides.go     override_keys, overrides
//	killreports.go   kill_reports
package store
