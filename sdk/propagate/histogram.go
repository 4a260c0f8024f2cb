package propagate

import "sync/atomic"

// Histogram is a copy of a distribution at one moment.
type Histogram struct {
	Bounds []float64 `json:"bounds"` // upper, inclusive; ascending
	Counts []uint64  `json:"counts"` // one more than Bounds: the last is what lies above them all
	Sum    float64   `json:"sum"`
}

// Count returns how many values there are.
func (h Histogram) Count() (n uint64) {
	for _, c := range h.Counts {
		n += c
	}
	return n
}

// The bounds of what is distributed: bytes of a header, and microseconds.
var (
	headerBounds = [...]float64{128, 192, 256, 320, 400, 512, 1024, headerBudget}
	fetchBounds  = [...]float64{500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000}
)

// distribution is a Histogram in the making, of whole numbers.
type distribution struct {
	bounds *[8]float64
	counts [9]atomic.Uint64
	sum    atomic.Uint64
}

func (d *distribution) add(n uint64) {
	at := 0
	for at < len(d.bounds) && float64(n) > d.bounds[at] {
		at++
	}
	d.counts[at].Add(1)
	d.sum.Add(n)
}

// histogram returns d in another unit, which is scale of ours.
func (d *distribution) histogram(scale float64) Histogram {
	h := Histogram{Sum: float64(d.sum.Load()) * scale}
	for _, b := range d.bounds {
		h.Bounds = append(h.Bounds, b*scale)
	}
	for i := range d.counts {
		h.Counts = append(h.Counts, d.counts[i].Load())
	}
	return h
}
