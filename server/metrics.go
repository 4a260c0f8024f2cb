package server

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/guidon-flags/guidon/server/collector"
	"github.com/guidon-flags/guidon/server/fleet"
	"github.com/guidon-flags/guidon/server/hub"
	"github.com/guidon-flags/guidon/server/notary"
	"github.com/guidon-flags/guidon/store"
)

// metrics is what /metrics shows. Labels are bounded: procedures by the
// permission table, codes by Connect, environments by the database.
type metrics struct {
	registry *prometheus.Registry
	calls    *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	streams  *prometheus.GaugeVec
	stalled  prometheus.Counter
	refused  prometheus.Counter
	ahead    prometheus.Counter
	limited  *prometheus.CounterVec
	// security counts what the security log is told, suppressed what it leaves out.
	security   *prometheus.CounterVec
	suppressed prometheus.Counter
}

func newMetrics(version string, db *store.DB, state held) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "guidon_rpc_total", Help: "RPCs that ended, by procedure and code.",
		}, []string{"procedure", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "guidon_rpc_seconds", Help: "How long RPCs took; for a stream, how long it was open.",
			Buckets: []float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 600},
		}, []string{"procedure"}),
		streams: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "guidon_sync_streams", Help: "Open Sync streams.",
		}, []string{"environment"}),
		stalled: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "guidon_sync_stalled_total", Help: "Sync streams that were cut because the client did not read.",
		}),
	}
	m.refused = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "guidon_sync_refused_total", Help: "Streams, of whatever protocol, that were not let in and told to come back.",
	})
	m.ahead = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "guidon_sync_ahead_total", Help: "Sync streams of clients that hold a revision which the database does not have.",
	})
	m.limited = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "guidon_rate_limited_total", Help: "Calls that were one too many, by what there were too many of.",
	}, []string{"limit"})
	m.security = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "guidon_security_events_total", Help: "Calls that were refused, or failed to change something, by outcome.",
	}, []string{"outcome"})
	m.suppressed = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "guidon_security_suppressed_total", Help: "Lines that the security log left out because there were too many.",
	})
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "guidon_build_info", Help: "Always 1.", ConstLabels: prometheus.Labels{"version": version},
	})
	build.Set(1)
	m.registry.MustRegister(m.calls, m.seconds, m.streams, m.stalled, m.refused, m.ahead, m.limited, m.security, m.suppressed, build, state,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if db != nil {
		m.registry.MustRegister(database{db})
	}
	return m
}

func (m *metrics) call(c *call, took time.Duration) {
	m.calls.WithLabelValues(c.procedure, codeName(c.code)).Inc()
	m.seconds.WithLabelValues(c.procedure).Observe(took.Seconds())
}

// held shows what the hub, the fleet, the collector and the notary hold at the
// moment they are asked.
type held struct {
	hub       *hub.Hub
	fleet     *fleet.Fleet
	collector *collector.Collector
	notary    *notary.Notary
}

var (
	revisionDesc = prometheus.NewDesc("guidon_environment_revision",
		"Newest revision this replica has read.", []string{"environment"}, nil)
	ageDesc = prometheus.NewDesc("guidon_environment_age_seconds",
		"Time since the revision was last known to be the newest.", []string{"environment"}, nil)
	flagsDesc = prometheus.NewDesc("guidon_environment_flags",
		"Flags in the newest revision, archived ones included.", []string{"environment"}, nil)
	looksDesc = prometheus.NewDesc("guidon_hub_looks_total",
		"How often the database was asked for news, by result.", []string{"result"}, nil)
	historyDesc = prometheus.NewDesc("guidon_hub_history_total",
		"How often something older than the newest revision was wanted, by where it was found.", []string{"result"}, nil)
	historyBytesDesc = prometheus.NewDesc("guidon_hub_history_bytes",
		"About what is kept of older revisions.", nil, nil)
	acksDesc = prometheus.NewDesc("guidon_fleet_acks_total",
		"How often an instance said what it holds, by whether there was room to take note of it.", []string{"result"}, nil)
	sharedDesc = prometheus.NewDesc("guidon_fleet_shared_total",
		"How often the other replicas were told who is connected, by result.", []string{"result"}, nil)
	collectionsDesc = prometheus.NewDesc("guidon_collector_rounds_total",
		"How often this replica looked for revisions that are older than they are kept, by result.", []string{"result"}, nil)
	collectedDesc = prometheus.NewDesc("guidon_collector_rows_total",
		"Rows of old revisions that this replica removed, by what they were.", []string{"kind"}, nil)
	checkpointsDesc = prometheus.NewDesc("guidon_audit_checkpoints_total",
		"How often this replica signed a checkpoint of the audit log, by result.", []string{"result"}, nil)
	publishedDesc = prometheus.NewDesc("guidon_audit_published_total",
		"How often this replica published a checkpoint to a file or a URL, by result.", []string{"result"}, nil)
	unpublishedDesc = prometheus.NewDesc("guidon_audit_unpublished",
		"Newest checkpoints that wait to be published.", nil, nil)
)

// Describe implements [prometheus.Collector].
func (held) Describe(ch chan<- *prometheus.Desc) {
	ch <- revisionDesc
	ch <- ageDesc
	ch <- flagsDesc
	ch <- looksDesc
	ch <- historyDesc
	ch <- historyBytesDesc
	ch <- acksDesc
	ch <- sharedDesc
	ch <- collectionsDesc
	ch <- collectedDesc
	ch <- checkpointsDesc
	ch <- publishedDesc
	ch <- unpublishedDesc
}

// Collect implements [prometheus.Collector].
func (c held) Collect(ch chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, v float64, name string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, v, name)
	}
	for e := range c.hub.Environments() {
		snapshot := e.Snapshot()
		gauge(revisionDesc, float64(snapshot.Revision()), e.Name())
		gauge(ageDesc, e.Age().Seconds(), e.Name())
		gauge(flagsDesc, float64(snapshot.Len()), e.Name())
	}
	stats := c.hub.Stats()
	count := func(desc *prometheus.Desc, n int64, result string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n), result)
	}
	count(looksDesc, stats.Looks-stats.LooksFailed, "ok")
	count(looksDesc, stats.LooksFailed, "failed")
	count(historyDesc, stats.HistoryHits, "memory")
	count(historyDesc, stats.HistoryReads-stats.HistoryFailed, "database")
	count(historyDesc, stats.HistoryFailed, "failed")
	known := c.fleet.Stats()
	count(acksDesc, known.Acks-known.Refused, "ok")
	count(acksDesc, known.Refused, "refused")
	count(sharedDesc, known.Shared, "ok")
	count(sharedDesc, known.Failed, "failed")
	collections := c.collector.Stats()
	count(collectionsDesc, collections.Rounds-collections.Failed, "ok")
	count(collectionsDesc, collections.Failed, "failed")
	count(collectedDesc, collections.Versions, "version")
	count(collectedDesc, collections.Revisions, "revision")
	signed := c.notary.Stats()
	count(checkpointsDesc, signed.Made, "ok")
	count(checkpointsDesc, signed.Failed, "failed")
	count(publishedDesc, signed.Published, "ok")
	count(publishedDesc, signed.PublishFailed, "failed")
	ch <- prometheus.MustNewConstMetric(unpublishedDesc, prometheus.GaugeValue, float64(signed.Waiting))
	ch <- prometheus.MustNewConstMetric(historyBytesDesc, prometheus.GaugeValue, float64(stats.HistoryBytes))
}
