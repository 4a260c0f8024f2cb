package server

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/guidon-flags/guidon/server/hub"
)

// maxNesting bounds how deep messages of a request may lie in each other,
// before anything recursive looks at them. A level of JSON in a
// google.protobuf.Struct costs three.
const maxNesting = 110

var errNotMessage = errors.New("not a protobuf message")

// jsonCodec is Connect's JSON with a strict reader: a field that the message
// does not have is refused by name, for it is a typing error, and what was
// meant would silently not happen.
type jsonCodec struct{ name string }

func (c jsonCodec) Name() string { return c.name }

func (jsonCodec) Marshal(message any) ([]byte, error) {
	m, ok := message.(proto.Message)
	if !ok {
		return nil, errNotMessage
	}
	return protojson.Marshal(m)
}

func (jsonCodec) Unmarshal(data []byte, message any) error {
	m, ok := message.(proto.Message)
	if !ok {
		return errNotMessage
	}
	if len(data) == 0 {
		return errors.New("the body is empty; the least is {}")
	}
	if err := (protojson.UnmarshalOptions{RecursionLimit: maxNesting}).Unmarshal(data, m); err != nil {
		return fmt.Errorf("body is not a %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	return nil
}

// binaryCodec is protobuf with a bound on nesting. Unknown fields are kept, as
// protobuf wants it: a newer client must be able to talk to an older server.
type binaryCodec struct{}

func (binaryCodec) Name() string { return "proto" }

func (binaryCodec) Marshal(message any) ([]byte, error) {
	return binaryCodec{}.MarshalAppend(nil, message)
}

// MarshalAppend lets Connect use its own buffers.
func (binaryCodec) MarshalAppend(b []byte, message any) ([]byte, error) {
	if event, ok := message.(*hub.Event); ok {
		return append(b, event.Encoded()...), nil
	}
	m, ok := message.(proto.Message)
	if !ok {
		return nil, errNotMessage
	}
	return proto.MarshalOptions{}.MarshalAppend(b, m)
}

func (binaryCodec) Unmarshal(data []byte, message any) error {
	m, ok := message.(proto.Message)
	if !ok {
		return errNotMessage
	}
	if err := (proto.UnmarshalOptions{RecursionLimit: maxNesting}).Unmarshal(data, m); err != nil {
		return fmt.Errorf("body is not a %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	return nil
}
