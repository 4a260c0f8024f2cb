package eval_test

import (
	"bytes"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"testing"

	"github.com/guidon-flags/guidon/sdk/eval"
)

// vectorsFile is for people who write other clients: what fractional hashes,
// what comes out, and the bucket among 100 and among 2^31−1.
const vectorsFile = "testdata/buckets.csv"

// vectorInputs are flag key, targeting key and the JSON of an explicit first
// operand; "" stands for none.
func vectorInputs() (inputs [][3]string) {
	for _, key := range []string{"flag", "checkout.new-pricing", "a"} {
		for _, subject := range []string{"bob", "alice", "x", "user-4711", "5e8f2c1a-0b7d-4f39-9d55-7f1f2ad0a1c3", "Ünïcödé", "日本語", "🚀", "with space", "0"} {
			inputs = append(inputs, [3]string{key, subject, ""})
		}
	}
	for i := range 20 {
		inputs = append(inputs, [3]string{"rollout", fmt.Sprint("key-", i), ""})
	}
	for _, value := range []string{
		`""`, `"a"`, `"ab"`, `"abc"`, `"abcd"`, `"abcde"`, `"bob@example.com"`, `"日本語"`, `"exactly twenty-three by"`, `"exactly twenty-four byte"`,
		`"` + string(bytes.Repeat([]byte("long "), 60)) + `"`,
	} {
		inputs = append(inputs, [3]string{"flag", "", value})
	}
	for _, value := range []string{
		`true`, `false`, `0`, `-0`, `1`, `10`, `23`, `24`, `255`, `256`, `65535`, `65536`, `4294967295`, `4294967296`, `9007199254740991`, `18446744073709549568`,
		`18446744073709551616`, `-1`, `-24`, `-25`, `-256`, `-257`, `-9223372036854775808`, `-9223372036854777856`, `0.5`, `1.5`, `-4.1`, `65504.5`, `100000.5`,
		`3.4028234663852886e+38`, `1.1`, `1e300`, `5.960464477539063e-08`, `0.00006103515625`, `0.000030517578125`, `5e-324`, `1e-7`,
		`{}`, `{"a":1}`, `{"b":[1,null,true],"a":"x","aa":2.5}`, `{"10":1,"9":{"z":[]}}`,
	} {
		inputs = append(inputs, [3]string{"flag", "", value})
	}
	return inputs
}

// naiveVector is a line of the file, or nil where fractional yields null.
func naiveVector(t *testing.T, algorithm string, input [3]string) []string {
	t.Helper()
	var hashed []byte
	var first any
	if input[2] != "" {
		if err := json.Unmarshal([]byte(input[2]), &first); err != nil {
			t.Fatal(err)
		}
	}
	text, isText := first.(string)
	switch {
	case algorithm == eval.FractionalV3 && first != nil:
		hashed = cbor(first)
	case algorithm == eval.FractionalV3:
		hashed = cbor([]any{input[0], input[1]})
	case first == nil:
		hashed = []byte(input[0] + input[1])
	case isText:
		hashed = []byte(text)
	default:
		return nil
	}
	h := uint64(murmur(hashed))
	return []string{
		algorithm, input[0], input[1], input[2], hex.EncodeToString(hashed), strconv.FormatUint(h, 10),
		strconv.FormatUint(h*100>>32, 10), strconv.FormatUint(h*2147483647>>32, 10),
	}
}

func TestVectors(t *testing.T) {
	t.Parallel()
	lines := [][]string{{"algorithm", "flag_key", "targeting_key", "first_operand", "hashed_hex", "hash", "bucket_of_100", "bucket_of_2147483647"}}
	for _, algorithm := range []string{eval.FractionalV2, eval.FractionalV3} {
		for _, input := range vectorInputs() {
			if line := naiveVector(t, algorithm, input); line != nil {
				lines = append(lines, line)
			}
		}
	}
	var want bytes.Buffer
	if err := csv.NewWriter(&want).WriteAll(lines); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(vectorsFile, want.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(vectorsFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want.Bytes()) {
		t.Errorf("%s is not what the specification's arithmetic gives", vectorsFile)
	}
	committed, err := csv.NewReader(bytes.NewReader(got)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range committed[1:] {
		checkVector(t, line)
	}
}

// checkVector holds the compiled evaluator to a line, through Explain.
func checkVector(t *testing.T, line []string) {
	t.Helper()
	algorithm, key, subject, first := line[0], line[1], line[2], line[3]
	context := map[string]any{}
	operand := ""
	if first != "" { // in the context, where no rule can be seen in it
		context["first"] = json.RawMessage(first)
		operand = `{"var":"first"},`
	} else {
		context["targetingKey"] = subject
	}
	text, err := json.Marshal(context)
	if err != nil {
		t.Fatal(err)
	}
	c, err := eval.ContextFromJSON(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, rest := range []int{99, 2147483646} {
		f := compile(t, settingsRow(t, `{"fractional":"`+algorithm+`"}`), flagRow(t, key, map[string]any{
			"state": "ENABLED", "variants": map[string]any{"on": 1, "off": 0},
			"targeting": json.RawMessage(fmt.Sprintf(`{"fractional":[%s["on",1],["off",%d]]}`, operand, rest)),
		})).Flag(key)
		trace := f.Explain(c, 0).Trace
		if len(trace) != 1 || trace[0].Fractional == nil {
			t.Errorf("%v: no bucketing in %+v", line, trace)
			continue
		}
		b := trace[0].Fractional
		wantBucket := line[6]
		if rest != 99 {
			wantBucket = line[7]
		}
		if hex.EncodeToString([]byte(b.Value)) != line[4] || strconv.FormatUint(uint64(b.Hash), 10) != line[5] || strconv.FormatInt(b.Bucket, 10) != wantBucket {
			t.Errorf("%v: hashes %x to %d, bucket %d of %d", line, b.Value, b.Hash, b.Bucket, b.Sum)
		}
	}
}
