package server_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/store"
)

// BenchmarkOFREP compares OFREP with a bare handler that decodes and encodes
// the same JSON, in the same run: requests per second, and those and the 99th
// percentile as multiples of the floor's. Each is the median of five rounds.
func BenchmarkOFREP(b *testing.B) {
	const flags, rounds = 100, 5
	g := start(b)
	operations := make([]*guidonv1.Operation, flags)
	for i := range operations {
		key := fmt.Sprintf("flag-%03d", i)
		operations[i] = putFlag("production", key, "on")
		if i%2 == 0 {
			operations[i] = putPlan("production", key, "pro")
		}
	}
	g.apply(b, "production", append([]*guidonv1.Operation{{Operation: &guidonv1.Operation_PutSettings{PutSettings: &guidonv1.PutSettings{
		Environment: "production", Settings: &guidonv1.Settings{Fractional: "v2", Travel: []*guidonv1.TravelAttribute{{Attribute: "plan"}}},
	}}}}, operations...)...)
	key := g.key(b, store.KeyServer, "production")
	const body = `{"context":{"targetingKey":"user-77","plan":"pro","country":"NZ","email":"ada@example.nz","visits":12}}`
	address := strings.TrimPrefix(g.url, "http://")

	for _, c := range []struct{ name, path string }{
		{"single", ofrepSingle + "flag-042"}, {"bulk", ofrepBulk}, {"bulk by ETag", ofrepBulk}, {"bulk in gzip", ofrepBulk},
	} {
		headers := "Authorization: Bearer " + key + "\r\n"
		first := g.post(b, c.path, key, body)
		if c.name == "bulk by ETag" {
			headers += "If-None-Match: " + first.header.Get("ETag") + "\r\n"
		}
		if c.name == "bulk in gzip" {
			headers += "Accept-Encoding: gzip\r\n"
		}
		floor := httptest.NewServer(bare(b, first.body))
		defer floor.Close()
		for _, connections := range []int{1, 32} {
			b.Run(fmt.Sprintf("%s/connections=%d", c.name, connections), func(b *testing.B) {
				// By turns, so that both meet the machine in the same moods.
				var rate, least, rates, tails []float64
				for range rounds {
					floor := load(b, floor.Listener.Addr().String(), c.path, "", body, connections, b.N)
					ours := load(b, address, c.path, headers, body, connections, b.N)
					rate, least = append(rate, ours.rate), append(least, floor.rate)
					rates = append(rates, ours.rate/floor.rate)
					tails = append(tails, float64(ours.p99)/float64(floor.p99))
				}
				b.ReportMetric(0, "ns/op") // of both together: says nothing
				b.ReportMetric(median(rate), "req/s")
				b.ReportMetric(median(least), "floor-req/s")
				b.ReportMetric(median(rates), "×floor")
				b.ReportMetric(median(tails), "×p99")
			})
		}
	}
}

// median is the middle one of an odd number of figures.
func median(figures []float64) float64 {
	slices.Sort(figures)
	return figures[len(figures)/2]
}

// bare is the floor: it decodes a request and encodes what was answered to it.
func bare(b *testing.B, answer string) http.Handler {
	type flag struct {
		Key      string         `json:"key"`
		Reason   string         `json:"reason"`
		Variant  string         `json:"variant"`
		Value    any            `json:"value"`
		Metadata map[string]any `json:"metadata"`
	}
	var single flag
	var bulk struct {
		Flags    []flag         `json:"flags"`
		Metadata map[string]any `json:"metadata"`
	}
	out := any(&single)
	if strings.HasPrefix(answer, `{"flags"`) {
		out = &bulk
	}
	if err := json.Unmarshal([]byte(answer), out); err != nil {
		b.Fatal(err)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var request struct{ Context map[string]any }
		if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(out)
	})
}

// measured is what a load came to.
type measured struct {
	rate float64
	p99  time.Duration
}

// load sends n requests over keep-alive connections, as plainly as it can be
// done, for it shares the machine with what is measured.
func load(b *testing.B, address, path, headers, body string, connections, n int) measured {
	request := []byte("POST " + path + " HTTP/1.1\r\nHost: " + address + "\r\nContent-Type: application/json\r\n" + headers +
		fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body))
	var left atomic.Int64
	left.Store(int64(n))
	took := make([][]time.Duration, connections)
	var wg sync.WaitGroup
	begin := time.Now()
	for i := range connections {
		wg.Go(func() {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				b.Error(err)
				return
			}
			defer func() { _ = conn.Close() }()
			reader := bufio.NewReaderSize(conn, 64<<10)
			for left.Add(-1) >= 0 {
				begin := time.Now()
				if _, err := conn.Write(request); err != nil {
					b.Error(err)
					return
				}
				if err := discard(reader); err != nil {
					b.Error(err)
					return
				}
				took[i] = append(took[i], time.Since(begin))
			}
		})
	}
	wg.Wait()
	elapsed := time.Since(begin)
	all := slices.Concat(took...)
	slices.Sort(all)
	return measured{rate: float64(len(all)) / elapsed.Seconds(), p99: all[len(all)*99/100]}
}

// discard reads one answer and forgets it.
func discard(r *bufio.Reader) error {
	length, chunked, status := 0, false, true
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if status && !bytes.Contains(line, []byte(" 200 ")) && !bytes.Contains(line, []byte(" 304 ")) {
			return fmt.Errorf("answer: %s", line)
		}
		status = false
		if rest, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			for _, digit := range bytes.TrimSpace(rest) {
				length = length*10 + int(digit-'0')
			}
		}
		chunked = chunked || bytes.HasPrefix(line, []byte("Transfer-Encoding: chunked"))
		if len(line) == 2 {
			break
		}
	}
	if !chunked {
		_, err := r.Discard(length)
		return err
	}
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		var size int
		if _, err := fmt.Sscanf(string(line), "%x", &size); err != nil {
			return err
		}
		if _, err := io.CopyN(io.Discard, r, int64(size)+2); err != nil || size == 0 {
			return err
		}
	}
}
