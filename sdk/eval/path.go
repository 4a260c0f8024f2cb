package eval

import (
	"strconv"
	"strings"
)

// path is the operand of a var, split and hashed once.
type path struct {
	text  string // as written
	parts []part // empty: the whole of the data
}

type part struct {
	name string
	hash uint32
	// index is name as a position in a list. As in flagd what is no number is 0.
	index int
}

func newPath(text string) *path {
	p := &path{text: text}
	for name := range strings.SplitSeq(text, ".") {
		if name != "" {
			f, _ := strconv.ParseFloat(name, 64)
			p.parts = append(p.parts, part{name: name, hash: hashKey(name), index: toInt(f)})
		}
	}
	return p
}

// in walks from data to what the path names, null when it is not there.
func (p *path) in(data value) value {
	for i := range p.parts {
		switch data.shape() {
		case shapeObject:
			data, _ = data.ref.find(p.parts[i].hash, p.parts[i].name)
		case shapeList:
			at := p.parts[i].index
			if at < 0 || at >= len(data.ref.items) {
				return null
			}
			data = data.ref.items[at]
		default:
			return null
		}
	}
	return data
}

// toInt truncates, and saturates where a conversion would depend on the machine.
func toInt(f float64) int {
	const limit = 1 << 53
	switch {
	case f != f: // NaN
		return -limit
	case f > limit:
		return limit
	case f < -limit:
		return -limit
	}
	return int(f)
}
