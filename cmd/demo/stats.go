package main

import (
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// Stats are all that the page shows.
type Stats struct {
	// Started is when the shop opened: sequences and counts begin there.
	Started     time.Time       `json:"started"`
	Propagation mode            `json:"propagation"`
	Services    []ServiceStats  `json:"services"`
	Counts      map[mode]Counts `json:"counts"`
	Arrivals    Arrivals        `json:"arrivals"`
	// Header is the guidon header of the last request that carried one, in
	// parts; empty before.
	Header []Part `json:"header"`
	// Requests are the last ones, newest first.
	Requests []Request `json:"requests"`
}

// ServiceStats are what one service knows of Guidon.
type ServiceStats struct {
	Name      string `json:"name"`
	URL       string `json:"url"`
	Connected bool   `json:"connected"`
	// Environment is empty until Guidon has answered once.
	Environment string `json:"environment"`
	// Revision is the newest the service has; 0 before the first.
	Revision int64 `json:"revision"`
	// Lag is the artificial delay of its stream in milliseconds.
	Lag   float64 `json:"lagMs"`
	Error string  `json:"error,omitempty"`
}

// stats answers GET /stats?after=N: requests up to sequence N are left out.
func (s *Shop) stats(w http.ResponseWriter, r *http.Request) {
	after := 0
	if text := r.URL.Query().Get("after"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			refuse(w, http.StatusBadRequest, fmt.Errorf("query parameter after: %q is not a sequence number", text))
			return
		}
		after = n
	}
	reply(w, Stats{
		Started: s.started, Propagation: s.propagation.Mode(), Services: s.serviceStats(), Counts: s.record.Counts(), Arrivals: s.arrival.Summary(),
		Header: headerParts(s.record.Header()), Requests: s.record.Since(after),
	})
}

func (s *Shop) serviceStats() []ServiceStats {
	stats := make([]ServiceStats, 0, len(s.booths))
	for _, b := range s.booths {
		status := b.guidon.Status()
		stats = append(stats, ServiceStats{
			Name: b.name, URL: b.url, Connected: status.Connected, Environment: status.Environment,
			Revision: status.Revision, Lag: milliseconds(b.lag), Error: status.LastError,
		})
	}
	return stats
}
