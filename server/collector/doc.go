// Package collector removes what environments need not keep any more, while the
// server runs.
//
// The one idea: it takes small steps, and any replica may take the next. Which
// revisions are kept follows from the database alone (see store.Collect), so a
// replica that stops, or a database that is away, delays what is removed and
// never what is answered.
package collector
