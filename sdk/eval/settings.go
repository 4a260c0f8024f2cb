package eval

import "math"

// Settings are what evaluation depends on besides definitions, versioned with
// the environment. The zero value says: nothing travels, fractional v2.
//
// Their document is {"fractional":"v2","travel":[{"as":"p","attribute":"plan","maxBytes":16}]}.
type Settings struct {
	// Travel lists the context attributes that the guidon header carries,
	// sorted by attribute.
	Travel []Travel

	// Fractional names the bucketing algorithm, "v2" or "v3"; empty means "v2".
	Fractional string
}

// The names of the bucketing algorithms.
const (
	FractionalV2 = "v2"
	FractionalV3 = "v3"
)

func (s Settings) travels(attribute string) bool {
	for _, t := range s.Travel {
		if t.Attribute == attribute {
			return true
		}
	}
	return false
}

func readSettings(v value) (Settings, error) {
	s := Settings{Fractional: FractionalV2}
	if v.shape() != shapeObject {
		return Settings{}, placed("", "must be an object")
	}
	for _, f := range v.ref.fields {
		switch f.key {
		case "fractional":
			if f.value.str != FractionalV2 && f.value.str != FractionalV3 {
				return Settings{}, placed(".fractional", `must be "v2" or "v3"`)
			}
			s.Fractional = f.value.str
		case "travel":
			if f.value.shape() != shapeList {
				return Settings{}, placed(".travel", "must be a list")
			}
			for i, item := range f.value.ref.items {
				if err := item.only("attribute", "as", "maxBytes"); err != nil {
					return Settings{}, within(pathOf("travel", i), err)
				}
				attribute := item.field("attribute")
				if attribute.shape() != shapeText || attribute.str == "" {
					return Settings{}, placed(pathOf("travel", i)+".attribute", "must be a non-empty string")
				}
				as := item.field("as")
				if as.shape() != shapeText && as.shape() != shapeNull {
					return Settings{}, placed(pathOf("travel", i)+".as", "must be a string")
				}
				most := item.field("maxBytes")
				if !most.isNull() && (!most.isNumber() || most.num != math.Trunc(most.num) || most.num < 1 || most.num > MaxTravelBytes) {
					return Settings{}, placed(pathOf("travel", i)+".maxBytes", "must be a whole number from 1 to %d", MaxTravelBytes)
				}
				s.Travel = append(s.Travel, Travel{Attribute: attribute.str, As: as.str, MaxBytes: int(most.num)})
			}
		default:
			return Settings{}, placed(pathOf(f.key), "is not a setting; known are fractional and travel")
		}
	}
	return s, nil
}
