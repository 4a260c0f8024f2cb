package server

import (
	"strconv"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/guidon-flags/guidon/store"
)

// checkText refuses a request with text that Postgres cannot hold, and names
// the field: path is that of m. Definitions and contexts may say what JSON can.
func checkText(path string, m protoreflect.Message) (err error) {
	if m.Descriptor().ParentFile().Package() == "google.protobuf" {
		return nil
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		at := strings.TrimPrefix(path+"."+string(f.Name()), ".")
		switch {
		case f.IsMap():
			v.Map().Range(func(key protoreflect.MapKey, v protoreflect.Value) bool {
				if err = checkValue(at, f.MapKey(), key.Value()); err == nil {
					err = checkValue(at, f.MapValue(), v)
				}
				return err == nil
			})
		case f.IsList():
			for i := 0; i < v.List().Len() && err == nil; i++ {
				err = checkValue(at+"["+strconv.Itoa(i)+"]", f, v.List().Get(i))
			}
		default:
			err = checkValue(at, f, v)
		}
		return err == nil
	})
	return err
}

func checkValue(path string, f protoreflect.FieldDescriptor, v protoreflect.Value) error {
	switch {
	case f.Message() != nil:
		return checkText(path, v.Message())
	case f.Kind() == protoreflect.StringKind && strings.ContainsRune(v.String(), 0):
		return &store.FieldError{Field: path, Message: "holds a NUL character"}
	}
	return nil
}
