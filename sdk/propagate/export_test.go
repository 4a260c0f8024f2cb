package propagate

// DecodeOverride reads a token without checking its signature.
func DecodeOverride(value string) (OverrideToken, error) {
	t, _, _, err := readOverride(value)
	if err != nil {
		return OverrideToken{}, err
	}
	return t, nil
}
