package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// KillFigures say how far a kill has come, at one moment.
type KillFigures struct {
	// Reached of the Connected instances held it. Of these, Timed are known to
	// have taken it, and when.
	Connected, Reached, Timed int
	// P50, P99 and Last are how long after the commit those took it.
	P50, P99, Last time.Duration
}

// KillReport is what servers noted of a kill while it spread.
type KillReport struct {
	// KilledAt is when the kill was committed.
	KilledAt time.Time
	KillFigures
	// Pierced is how many requests the kill changed under way.
	Pierced int64
	// RecordedAt is when the last of this was noted.
	RecordedAt time.Time
}

// A report that times more instances takes the place of one that times fewer;
// of as many the later one stands, until all had it. Counts of requests add up.
const upsertKillReport = `
WITH gone AS (
	DELETE FROM kill_reports
	WHERE environment = @environment AND revision <= (
		SELECT revision FROM kill_reports WHERE environment = @environment ORDER BY revision DESC OFFSET @kept LIMIT 1
	)
)
INSERT INTO kill_reports AS r (environment, revision, killed_at, connected, reached, timed, p50, p99, last, pierced, recorded_at)
VALUES (@environment, @revision, @killed_at, @connected, @reached, @timed, @p50, @p99, @last, @pierced, clock_timestamp())
ON CONFLICT (environment, revision) DO UPDATE SET
	(connected, reached, timed, p50, p99, last) = (
		SELECT f.connected, f.reached, f.timed, f.p50, f.p99, f.last
		FROM (VALUES
			(true, r.connected, r.reached, r.timed, r.p50, r.p99, r.last),
			(false, EXCLUDED.connected, EXCLUDED.reached, EXCLUDED.timed, EXCLUDED.p50, EXCLUDED.p99, EXCLUDED.last)
		) AS f (old, connected, reached, timed, p50, p99, last)
		ORDER BY f.timed DESC, f.old = (r.reached >= r.connected) DESC
		LIMIT 1
	),
	pierced = r.pierced + EXCLUDED.pierced,
	recorded_at = EXCLUDED.recorded_at
WHERE EXCLUDED.pierced > 0 OR EXCLUDED.timed > r.timed
	OR EXCLUDED.timed = r.timed AND r.reached < r.connected
		AND (EXCLUDED.connected, EXCLUDED.reached) IS DISTINCT FROM (r.connected, r.reached)`

// maxKillReports bounds the reports of an environment that are kept beside the
// newest.
const maxKillReports = 1000

// RecordKill notes how the kill that made a revision goes: how far it has come,
// if that is more than is noted already, and that so many more requests were
// changed under way.
func (db *DB) RecordKill(ctx context.Context, env string, revision int64, killedAt time.Time, f KillFigures, pierced int64) error {
	_, err := db.exec(ctx, upsertKillReport, pgx.StrictNamedArgs{
		"environment": env, "revision": revision, "killed_at": killedAt, "connected": f.Connected, "reached": f.Reached, "timed": f.Timed,
		"p50": f.P50, "p99": f.P99, "last": f.Last, "pierced": pierced, "kept": maxKillReports,
	})
	return dbError("record kill", err)
}

const selectKillReport = `
SELECT killed_at, connected, reached, timed, p50, p99, last, pierced, recorded_at
FROM kill_reports
WHERE environment = @environment AND revision = @revision`

// KillReport returns what was noted of the kill that made a revision. Without
// that it is ErrNotFound.
func (db *DB) KillReport(ctx context.Context, env string, revision int64) (KillReport, error) {
	return readOne[KillReport](ctx, db, fmt.Sprintf("kill report of revision %d of %.128q", revision, env), selectKillReport,
		pgx.StrictNamedArgs{"environment": env, "revision": revision})
}
