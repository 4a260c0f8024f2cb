package store

import (
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// bulk is a statement over rows that it is given, which stand in it as {rows}.
// Of one, as nearly always, its columns are plain parameters; of several they
// are arrays, of which Postgres makes rows first: a third of the time again.
type bulk struct {
	one, many string
	columns   int
}

// over makes a bulk of a statement over rows of the given columns, each a name
// and a type that is no array.
func over(sql string, columns ...string) bulk {
	var names, ones, arrays []string
	for i, column := range columns {
		name, kind, _ := strings.Cut(column, " ")
		names = append(names, name)
		ones = append(ones, fmt.Sprintf("$%d::%s AS %s", i+1, kind, name))
		arrays = append(arrays, fmt.Sprintf("$%d::%s[]", i+1, kind))
	}
	given := func(rows string) string { return strings.ReplaceAll(sql, "{rows}", rows) }
	return bulk{
		one:     given("(SELECT " + strings.Join(ones, ", ") + ") AS n"),
		many:    given("unnest(" + strings.Join(arrays, ", ") + ") AS n (" + strings.Join(names, ", ") + ")"),
		columns: len(columns),
	}
}

// bulkRow is one row that a statement is given: its columns in their order.
type bulkRow []any

// queue queues the statement over some rows, if there are any.
func (s bulk) queue(b *pgx.Batch, rows []bulkRow) {
	if len(rows) > 0 {
		s.given(b, rows)
	}
}

// queueOver is [queue] for a statement over rows, if there are any.
func queueOver[T any](b *pgx.Batch, out *[]T, s bulk, rows []bulkRow) {
	if len(rows) > 0 {
		s.given(b, rows).Query(gather(out))
	}
}

func (s bulk) given(b *pgx.Batch, rows []bulkRow) *pgx.QueuedQuery {
	if len(rows) == 1 {
		return b.Queue(s.one, rows[0]...)
	}
	columns := make([]any, s.columns)
	for i := range columns {
		column := make([]any, len(rows))
		for j, row := range rows {
			column[j] = row[i]
		}
		columns[i] = column
	}
	return b.Queue(s.many, columns...)
}
