package flagd

import (
	"errors"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// jsonCodec is JSON as flagd speaks it: it says what is zero, and passes over
// what it does not know.
type jsonCodec struct{ name string }

// maxNesting bounds how deep messages of a request may lie in each other. A
// level of JSON in a google.protobuf.Struct costs three.
const maxNesting = 110

var errNotMessage = errors.New("not a protobuf message")

func (c jsonCodec) Name() string { return c.name }

func (jsonCodec) Marshal(message any) ([]byte, error) {
	m, ok := message.(proto.Message)
	if !ok {
		return nil, errNotMessage
	}
	return protojson.MarshalOptions{EmitUnpopulated: true}.Marshal(m)
}

func (jsonCodec) Unmarshal(data []byte, message any) error {
	m, ok := message.(proto.Message)
	if !ok {
		return errNotMessage
	}
	if len(data) == 0 {
		return errors.New("the body is empty; the least is {}")
	}
	return protojson.UnmarshalOptions{DiscardUnknown: true, RecursionLimit: maxNesting}.Unmarshal(data, m)
}
