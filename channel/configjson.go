// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
)

// ConfigError says which part of a service config is wrong.
type ConfigError struct {
	// Path leads to the part, as in "methodConfig[0].retryPolicy.maxAttempts";
	// empty for the whole.
	Path string
	// Held is what stands there, as JSON, the start of it if it is long; empty
	// where something is missing.
	Held string
	// Expected is what may stand there.
	Expected string
	// Err is the error of the JSON decoder or of the policy's own parser, if it
	// was one of these that complained.
	Err error
}

// Error names the path, what it held and what was expected.
func (e *ConfigError) Error() string {
	s := "service config"
	if e.Path != "" {
		s += ": " + e.Path
	}
	if e.Held != "" {
		s += " holds " + e.Held
	} else {
		s += " is missing"
	}
	s += "; expected " + e.Expected
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the parser's error.
func (e *ConfigError) Unwrap() error { return e.Err }

// maxHeld bounds the JSON that an error repeats, in bytes.
const maxHeld = 64

// jsonField is a JSON value that knows where it stands.
type jsonField struct {
	path string
	raw  json.RawMessage
}

func (f jsonField) bad(expected string, err error) *ConfigError {
	held := string(f.raw)
	if len(held) > maxHeld {
		held = clip(held, maxHeld) + "..."
	}
	return &ConfigError{Path: f.path, Held: held, Expected: expected, Err: err}
}

// read decodes into out, a pointer to a basic type.
func (f jsonField) read(out any, expected string) error {
	if err := json.Unmarshal(f.raw, out); err != nil {
		return f.bad(expected, nil)
	}
	return nil
}

func (f jsonField) object() (jsonObject, error) {
	o := jsonObject{at: f.path}
	if err := f.read(&o.fields, "an object"); err != nil || o.fields == nil {
		return o, f.bad("an object", nil)
	}
	return o, nil
}

func (f jsonField) list() ([]jsonField, error) {
	var raw []json.RawMessage
	if err := f.read(&raw, "a list"); err != nil {
		return nil, err
	}
	fields := make([]jsonField, len(raw))
	for i, r := range raw {
		fields[i] = jsonField{fmt.Sprintf("%s[%d]", f.path, i), r}
	}
	return fields, nil
}

func (f jsonField) text() (s string, err error) { return s, f.read(&s, "a string") }

func (f jsonField) boolean() (b bool, err error) { return b, f.read(&b, "true or false") }

// number reads a number, or a string that holds one, as proto JSON allows.
func (f jsonField) number(expected string) (float64, error) {
	text := strings.Trim(string(f.raw), `"`)
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsInf(v, 0) || math.IsNaN(v) || strings.ContainsAny(text, "xXpP_") {
		return 0, f.bad(expected, nil)
	}
	return v, nil
}

// integer reads a whole number of at least least. Larger ones than an int
// holds count as the largest.
func (f jsonField) integer(least int, expected string) (int, error) {
	v, err := f.number(expected)
	if err != nil {
		return 0, err
	}
	if v != math.Trunc(v) || v < float64(least) {
		return 0, f.bad(expected, nil)
	}
	if v >= math.MaxInt {
		return math.MaxInt, nil
	}
	return int(v), nil
}

// maxDuration is what proto JSON lets a duration be, in seconds.
const maxDuration = 315_576_000_000

// duration reads proto JSON's form, as in "1.5s"
// (https://protobuf.dev/reference/protobuf/google.protobuf/#duration). What is
// longer than Go's longest duration counts as that.
func (f jsonField) duration(positive bool) (time.Duration, error) {
	expected := `a duration such as "1.5s"`
	if positive {
		expected += ", more than 0"
	}
	var s string
	if err := f.read(&s, expected); err != nil {
		return 0, err
	}
	number, unit := strings.CutSuffix(s, "s")
	whole, fraction, _ := strings.Cut(number, ".")
	digits := func(s string) bool { return strings.Trim(s, "0123456789") == "" }
	if !unit || !digits(whole) || !digits(fraction) || len(fraction) > 9 || whole+fraction == "" {
		return 0, f.bad(expected, nil)
	}
	sec, _ := strconv.ParseUint("0"+whole, 10, 64) // the largest value if out of range
	ns, _ := strconv.ParseUint((fraction + "000000000")[:9], 10, 64)
	switch {
	case sec > maxDuration, positive && sec == 0 && ns == 0:
		return 0, f.bad(expected, nil)
	case sec >= math.MaxInt64/uint64(time.Second):
		return math.MaxInt64, nil
	}
	return time.Duration(sec)*time.Second + time.Duration(ns), nil
}

// codeNames are the names that codes have in service configs.
var codeNames = []string{"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND",
	"ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED",
	"OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"}

// code reads a status code, "specified in the integer form or the
// case-insensitive string form" (gRFC A6).
func (f jsonField) code() (codes.Code, error) {
	const expected = `a status code, by name such as "UNAVAILABLE" or by number, 0 to 16`
	var name string
	if json.Unmarshal(f.raw, &name) == nil {
		if i := slices.Index(codeNames, strings.ToUpper(name)); i >= 0 {
			return codes.Code(i), nil
		}
		return 0, f.bad(expected, nil)
	}
	n, err := f.integer(0, expected)
	if err != nil {
		return 0, err
	}
	if n >= len(codeNames) {
		return 0, f.bad(expected, nil)
	}
	return codes.Code(n), nil
}

// codes reads a list of status codes.
func (f jsonField) codes() (CodeSet, error) {
	var set CodeSet
	list, err := f.list()
	if err != nil {
		return 0, err
	}
	for _, e := range list {
		c, err := e.code()
		if err != nil {
			return 0, err
		}
		set |= 1 << c
	}
	return set, nil
}

// jsonObject is a JSON object. Fields nobody asks for are ignored.
type jsonObject struct {
	at     string
	fields map[string]json.RawMessage
}

// get returns a field. A name in another case will do if the exact one is not
// there, as for grpc-go, and null is no value, as in proto JSON.
func (o jsonObject) get(name string) (jsonField, bool) {
	f := jsonField{path: o.path(name)}
	raw, ok := o.fields[name]
	if !ok {
		best := ""
		for k := range o.fields {
			if strings.EqualFold(k, name) && (best == "" || k < best) {
				best = k
			}
		}
		raw = o.fields[best]
	}
	f.raw = raw
	return f, len(raw) > 0 && string(raw) != "null"
}

func (o jsonObject) path(name string) string {
	if o.at == "" {
		return name
	}
	return o.at + "." + name
}

// need is get of a field that must be there.
func (o jsonObject) need(name, expected string) (jsonField, error) {
	f, ok := o.get(name)
	if !ok {
		return f, &ConfigError{Path: f.path, Expected: expected}
	}
	return f, nil
}

// readObject begins a service config.
func readObject(js string) (jsonObject, error) {
	f := jsonField{raw: json.RawMessage(js)}
	var o jsonObject
	err := json.Unmarshal(f.raw, &o.fields)
	var syntax *json.SyntaxError
	switch {
	case err == nil && o.fields == nil || err != nil && strings.TrimSpace(js) == "":
		return o, &ConfigError{Path: "the JSON object", Expected: "one, {} at least"}
	case errors.As(err, &syntax):
		at := min(max(int(syntax.Offset)-1, 0), len(js))
		f.raw = f.raw[max(0, at-maxHeld/2):min(len(js), at+maxHeld/2)]
		return o, f.bad("JSON", fmt.Errorf("byte %d: %w", syntax.Offset, err))
	case err != nil:
		return o, f.bad("a JSON object", nil)
	}
	return o, nil
}
