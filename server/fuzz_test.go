package server

import (
	"encoding/json"
	"testing"

	"google.golang.org/protobuf/proto"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store"
)

// FuzzRequest: whatever a body holds, reading and converting it ends in a
// value or in an error. What is accepted reads back as the same, and what
// would reach the store is JSON.
func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"operations":[{"putFlag":{"environment":"staging","key":"a","definition":{"state":"ENABLED","variants":{"on":true}}}}]}`))
	f.Add([]byte(`{"operations":[{"putSegment":{"condition":{"==":[{"var":"plan"},"gold"]}}},{"archiveFlag":{}},{}],"expectedRevisions":{"a":"1"}}`))
	f.Add([]byte(`{"environment":"staging","key":"a","context":{"x":[[[[null,1e999,"\ud800"]]]]},"revision":"7"}`))
	f.Add([]byte("\x0a\x07staging\x12\x01a"))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, codec := range []interface {
			Marshal(any) ([]byte, error)
			Unmarshal([]byte, any) error
		}{jsonCodec{"json"}, binaryCodec{}} {
			evaluate := &guidonv1.EvaluationServiceEvaluateRequest{}
			if codec.Unmarshal(body, evaluate) == nil {
				again(t, codec.Marshal, codec.Unmarshal, evaluate, &guidonv1.EvaluationServiceEvaluateRequest{})
				_, _ = eval.ContextFromStruct(evaluate.GetContext())
			}
			apply := &guidonv1.ChangeServiceApplyRequest{}
			if codec.Unmarshal(body, apply) != nil {
				continue
			}
			again(t, codec.Marshal, codec.Unmarshal, apply, &guidonv1.ChangeServiceApplyRequest{})
			operations, err := fromOperations(apply.GetOperations())
			if err != nil {
				continue
			}
			for _, o := range operations {
				if put, ok := o.(store.PutFlag); ok && !json.Valid(put.Definition) {
					t.Errorf("a definition that is not JSON: %q", put.Definition)
				}
				if put, ok := o.(store.PutSegment); ok && !json.Valid(put.Condition) {
					t.Errorf("a condition that is not JSON: %q", put.Condition)
				}
			}
		}
	})
}

// again writes a message that was accepted and reads it back.
func again(t *testing.T, marshal func(any) ([]byte, error), unmarshal func([]byte, any) error, accepted, empty proto.Message) {
	t.Helper()
	raw, err := marshal(accepted)
	if err != nil {
		return // a value that only protobuf can say
	}
	if err := unmarshal(raw, empty); err != nil {
		t.Errorf("%v was accepted, and is refused as it was written: %v", accepted, err)
	} else if !proto.Equal(accepted, empty) {
		t.Errorf("%v reads back as %v", accepted, empty)
	}
}
