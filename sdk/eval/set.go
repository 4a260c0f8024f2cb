package eval

import "slices"

// set is the literal list of an in, arranged for membership tests that answer as
// matches does item by item.
type set struct {
	texts   []string        // while few
	textSet map[string]bool // when many

	// numbers are what a number matches: the list's numbers, and its texts as
	// loose reads them.
	numbers map[float64]bool

	ranges        [][2]float64
	null, yes, no bool
}

// scannedTexts is the number of texts up to which a scan beats a map.
const scannedTexts = 8

func newSet(items []value) *set {
	s := &set{numbers: map[float64]bool{}}
	for _, item := range items {
		switch item.shape() {
		case shapeNull:
			s.null = true
		case shapeBoolean:
			s.yes = s.yes || item.num != 0
			s.no = s.no || item.num == 0
		case shapeNumber:
			s.numbers[item.num] = true
		case shapeText:
			s.texts = append(s.texts, item.str)
			s.numbers[loose(item)] = true
		case shapeList:
			if ends := item.ref.items; len(ends) >= 2 {
				s.ranges = append(s.ranges, [2]float64{loose(ends[0]), loose(ends[1])})
			}
		default: // nothing equals an object
		}
	}
	if len(s.texts) > scannedTexts {
		s.textSet = make(map[string]bool, len(s.texts))
		for _, text := range s.texts {
			s.textSet[text] = true
		}
		s.texts = nil
	}
	return s
}

func (s *set) has(v value) bool {
	switch v.shape() {
	case shapeNull:
		return s.null
	case shapeBoolean:
		return v.num != 0 && s.yes || v.num == 0 && s.no
	case shapeNumber:
		return s.numbers[v.num] || s.spans(v)
	case shapeText:
		if s.textSet != nil && s.textSet[v.str] {
			return true
		}
		return slices.Contains(s.texts, v.str) || s.spans(v)
	default:
		return false
	}
}

func (s *set) spans(v value) bool {
	if len(s.ranges) == 0 {
		return false
	}
	x := loose(v)
	for _, ends := range s.ranges {
		if x >= ends[0] && ends[1] >= x {
			return true
		}
	}
	return false
}
