package server

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/guidon-flags/guidon/store"
)

// database shows what the store counts, and what it holds at the moment it is
// asked.
type database struct{ *store.DB }

// databaseCount is a metric of the store.
type databaseCount struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(store.Stats) int64
}

func databaseCounter(name, help string, value func(store.Stats) int64) databaseCount {
	return databaseCount{prometheus.NewDesc(name, help, nil, nil), prometheus.CounterValue, value}
}

var (
	databaseCounts = []databaseCount{
		databaseCounter("guidon_database_busy_total", "How often no connection to the database was free in time.",
			func(s store.Stats) int64 { return s.Busy }),
		databaseCounter("guidon_database_unknown_durability_total", "Changes that were made and are not known to have reached a standby.",
			func(s store.Stats) int64 { return s.Unreplicated }),
		databaseCounter("guidon_database_retries_total", "Writes that were tried again, for a lock, a deadlock or a connection that died.",
			func(s store.Stats) int64 { return s.Retries }),
		databaseCounter("guidon_database_lost_total", "Connections that were found dead when they were used.",
			func(s store.Stats) int64 { return s.Lost }),
		databaseCounter("guidon_database_unlistened_total", "How often the connection that hears of changes ended.",
			func(s store.Stats) int64 { return s.Unlistened }),
		databaseCounter("guidon_database_unhinted_total", "Changes that other replicas could not be told of, and found by looking.",
			func(s store.Stats) int64 { return s.Unhinted }),
		databaseCounter("guidon_database_groups_total", "Transactions that small changes were made in, together.",
			func(s store.Stats) int64 { return s.Groups }),
		databaseCounter("guidon_database_grouped_total", "Small changes that were made together with others, or could have been.",
			func(s store.Stats) int64 { return s.Grouped }),
		{
			prometheus.NewDesc("guidon_database_waiting", "Small changes that wait in line.", nil, nil), prometheus.GaugeValue,
			func(s store.Stats) int64 { return int64(s.Waiting) },
		},
	}
	connectionsDesc = prometheus.NewDesc("guidon_database_connections",
		"Connections to the database in use, by what they are for.", []string{"pool"}, nil)
	maxConnectionsDesc = prometheus.NewDesc("guidon_database_connections_max",
		"The most connections there may be, by what they are for.", []string{"pool"}, nil)
)

// Describe implements [prometheus.Collector].
func (database) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range databaseCounts {
		ch <- c.desc
	}
	ch <- connectionsDesc
	ch <- maxConnectionsDesc
}

// Collect implements [prometheus.Collector].
func (d database) Collect(ch chan<- prometheus.Metric) {
	stats := d.Stats()
	for _, c := range databaseCounts {
		ch <- prometheus.MustNewConstMetric(c.desc, c.kind, float64(c.value(stats)))
	}
	pool := func(name string, used, most int32) {
		ch <- prometheus.MustNewConstMetric(connectionsDesc, prometheus.GaugeValue, float64(used), name)
		ch <- prometheus.MustNewConstMetric(maxConnectionsDesc, prometheus.GaugeValue, float64(most), name)
	}
	pool("read", stats.Reads, stats.MaxReads)
	pool("write", stats.Writes, stats.MaxWrites)
	pool("job", stats.Jobs, stats.MaxJobs)
}
