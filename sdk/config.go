package guidon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"sync/atomic"

	"github.com/open-feature/go-sdk/openfeature"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/sdk/propagate"
)

// maxDecoded bounds the decoded values that a client keeps. Beyond it all are
// dropped, and decoded again as they are asked for.
const maxDecoded = 1024

// standard is the client of SetDefault.
var standard atomic.Pointer[Client]

// SetDefault makes c the client that [Config] and [ConfigDetails] read from. A
// program with one client calls it once, after [Open]. Nil takes it back.
func SetDefault(c *Client) { standard.Store(c) }

// Config reads a flag, usually of kind "config", as a T: a struct with json
// tags for an object, or a string, boolean or number. It reads what the request
// of ctx must see, like every evaluation. fallback is returned where the flag
// has no value, and where its value does not fit T: [ConfigDetails] says why.
//
// A value is decoded once for as long as the flag stays what it is, and shared
// by all callers: do not change what its pointers, slices and maps lead to.
func Config[T any](ctx context.Context, key string, fallback T) T {
	return ConfigDetails(ctx, standard.Load(), key, fallback).Value
}

// ConfigDetails is [Config] of a particular client, with OpenFeature's account
// of how it went. A value that cannot be decoded into T is TYPE_MISMATCH, and
// the message names the place. A nil client is PROVIDER_NOT_READY.
func ConfigDetails[T any](ctx context.Context, c *Client, key string, fallback T) openfeature.GenericEvaluationDetails[T] {
	details := openfeature.GenericEvaluationDetails[T]{Value: fallback}
	details.FlagKey, details.FlagType = key, openfeature.Object
	if c == nil {
		details.Reason, details.ErrorCode = openfeature.ErrorReason, openfeature.ProviderNotReadyCode
		details.ErrorMessage = "no client: call SetDefault after Open"
		return details
	}
	result := c.propagator.Evaluate(ctx, key, eval.Any, nil)
	details.Variant, details.Reason = result.Variant(), openfeature.Reason(result.Reason())
	details.ErrorCode, details.ErrorMessage = openfeature.ErrorCode(result.ErrorCode()), result.Message()
	details.FlagMetadata = result.Metadata()
	value := result.Value()
	if value == nil {
		return details
	}
	decoded, err := decode[T](c, value)
	if err != nil {
		details.Variant, details.Reason, details.ErrorCode = "", openfeature.ErrorReason, openfeature.TypeMismatchCode
		details.ErrorMessage = mismatch(result, err)
		return details
	}
	details.Value = decoded
	return details
}

// mismatch says where a value does not fit.
func mismatch(result propagate.Result, err error) string {
	place := "$"
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && wrong.Field != "" {
		place += "." + wrong.Field
	}
	return fmt.Sprintf("variant %q of flag %q does not decode: %s: %v", result.Variant(), result.Flag().Key(), place, err)
}

// decode turns the value of a variant into a T. Values are immutable and shared
// by all resolutions of a definition, so an object is known by its address.
func decode[T any](c *Client, value any) (T, error) {
	object, ok := value.(map[string]any)
	if !ok {
		if same, ok := value.(T); ok {
			return same, nil
		}
		return into[T](value)
	}
	key := decodedKey{reflect.ValueOf(object).Pointer(), reflect.TypeFor[T]()}
	if known, ok := c.decoded.at(key); ok {
		decoded, _ := known.value.(T)
		return decoded, known.err
	}
	decoded, err := into[T](value)
	c.decoded.keep(key, decodedValue{object, decoded, err})
	return decoded, err
}

// into decodes by way of JSON, so that nothing of a snapshot is shared.
func into[T any](value any) (decoded T, err error) {
	document, err := json.Marshal(value)
	if err != nil {
		return decoded, err
	}
	if err := json.Unmarshal(document, &decoded); err != nil {
		var none T
		return none, err
	}
	return decoded, nil
}

type decodedKey struct {
	object uintptr
	as     reflect.Type
}

type decodedValue struct {
	object map[string]any // keeps the address of the key from being used again
	value  any
	err    error
}

// decodedValues are what a client decoded so far. The map is replaced, never
// changed, so that reading takes no lock; of two that are kept at the same
// time one may be lost, and is decoded again.
type decodedValues struct {
	all atomic.Pointer[map[decodedKey]decodedValue]
}

func (d *decodedValues) at(key decodedKey) (decodedValue, bool) {
	all := d.all.Load()
	if all == nil {
		return decodedValue{}, false
	}
	v, ok := (*all)[key]
	return v, ok
}

func (d *decodedValues) keep(key decodedKey, v decodedValue) {
	next := map[decodedKey]decodedValue{}
	if all := d.all.Load(); all != nil && len(*all) < maxDecoded {
		next = maps.Clone(*all)
	}
	next[key] = v
	d.all.Store(&next)
}
