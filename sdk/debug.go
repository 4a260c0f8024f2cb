package guidon

import (
	"encoding/json"
	"net/http"
	"reflect"
	"sync/atomic"

	"github.com/guidon-flags/guidon/sdk/propagate"
)

// debugReport is what DebugHandler answers. It has no secret, no value of a flag
// and nothing of a request.
type debugReport struct {
	Environment string  `json:"environment"`
	State       string  `json:"state"`
	Connected   bool    `json:"connected"`
	LastError   string  `json:"lastError,omitempty"`
	Revision    int64   `json:"revision"`
	Digest      string  `json:"digest,omitempty"`
	Flags       int     `json:"flags"`
	AgeSeconds  float64 `json:"ageSeconds"` // since the server was last heard
	Mode        string  `json:"mode"`
	SDK         string  `json:"sdk"`

	SigningKey    string   `json:"signingKey,omitempty"` // ids only
	VerifyingKeys []string `json:"verifyingKeys"`

	EmergenciesUntil int64            `json:"emergenciesUntil"`
	Emergencies      []debugEmergency `json:"emergencies"`

	Headers     map[string]uint64            `json:"headers"`
	Events      map[string]uint64            `json:"events"`
	FlagEvents  map[string]map[string]uint64 `json:"flagEvents"`
	Overrides   map[string]uint64            `json:"overrides"`
	HeaderBytes propagate.Histogram          `json:"headerBytes"`
	PinFetch    propagate.Histogram          `json:"pinFetchSeconds"`
	Feed        map[string]int64             `json:"feed"`
}

type debugEmergency struct {
	Flag     string `json:"flag"`
	Revision int64  `json:"revision"`
	Variant  string `json:"variant"`
}

// DebugHandler answers with what this process holds, as JSON: revision, age,
// keys by their ids, kills, counters. It never shows a secret, the value of a
// flag or anything of a request; and yet it is for operators, so mount it where
// only they get, such as at GET /debug/guidon of an internal listener.
func (c *Client) DebugHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "only GET is known here", http.StatusMethodNotAllowed)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		out := json.NewEncoder(w)
		out.SetIndent("", "  ")
		_ = out.Encode(c.debugReport()) // the reader has gone
	})
}

func (c *Client) debugReport() debugReport {
	status, stats := c.Status(), c.propagator.Stats()
	signer, verifiers := c.keys.IDs()
	report := debugReport{
		Environment: status.Environment, State: status.State.String(), Connected: status.Connected, LastError: status.LastError,
		Revision: status.Revision, AgeSeconds: status.Age.Seconds(), Mode: c.propagator.Mode().String(), SDK: moduleVersion(),
		SigningKey: signer, VerifyingKeys: verifiers, Emergencies: []debugEmergency{},
		Headers: map[string]uint64{}, Events: map[string]uint64{}, FlagEvents: map[string]map[string]uint64{}, Overrides: map[string]uint64{},
		HeaderBytes: stats.HeaderBytes, PinFetch: stats.PinFetchSeconds, Feed: map[string]int64{},
	}
	if s := c.Snapshot(); s != nil {
		report.Digest, report.Flags = s.Digest().String(), s.Len()
	}
	log := c.feed.Emergencies()
	report.EmergenciesUntil = log.Revision()
	for _, e := range log.Between(0, log.Revision()) {
		report.Emergencies = append(report.Emergencies, debugEmergency{e.Flag, e.Revision, e.Variant})
	}
	for outcome, n := range stats.Headers {
		report.Headers[outcome.String()] = n
	}
	for kind, n := range stats.Events {
		report.Events[kind.String()] = n
	}
	for kind, flags := range stats.Flags {
		report.FlagEvents[kind.String()] = flags
	}
	for outcome, n := range stats.Overrides {
		report.Overrides[outcome.String()] = n
	}
	counters := reflect.ValueOf(c.feed.Stats()).Elem()
	for i := range counters.NumField() {
		if n, ok := reflect.TypeAssert[*atomic.Int64](counters.Field(i).Addr()); ok {
			report.Feed[counters.Type().Field(i).Name] = n.Load()
		}
	}
	return report
}
