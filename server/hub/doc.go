// Package hub keeps the newest snapshot of every environment in memory and
// hands it to whoever evaluates or streams on this replica; it reaches older
// revisions through the store.
//
// The one idea: everything that may mean news (a notification, a reconnect, a
// change applied on this replica, the passing of a second) means only "look".
// One goroutine looks: it reads the revisions of all environments in one query
// and loads what is newer. The poll is the guarantee, the notification only
// makes it fast. A new revision is published by swapping one pointer and
// closing one channel; whoever waits, reads the pointer. There are no queues:
// a slow watcher skips revisions, it never delays another one and never sees
// one twice or out of order.
//
// What goes over the wire is encoded once for each revision, by the first
// watcher that needs it, and shared by all.
//
// A caller that sees some projects only has a head of its own, made of the
// environment's when it is first asked for and shared by all who see the same.
//
// Once an environment has been read, reading its newest revision needs no
// Postgres. An environment never goes back: a database that is behind what was
// served (restored from a backup, say) makes the hub not ready, and says why.
//
// The package does not decide who may read what, and does not write.
package hub
