// SPDX-License-Identifier: Apache-2.0

package invoke

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/faultline-rpc/faultline/internal/near"
)

// Codec turns messages into JSON and back.
type Codec struct {
	Source Source
	// AllowUnknown ignores fields of the JSON that the message does not have.
	AllowUnknown bool
	// EmitDefaults writes fields that have their default value too.
	EmitDefaults bool
	// Compact writes a message in one line.
	Compact bool
}

// BadJSON is the error for input that is no message of the type wanted.
type BadJSON struct {
	Number  int // of the message, from 1
	Message protoreflect.FullName
	Text    string
}

// Error names the message, the field and what is wrong with it.
func (e *BadJSON) Error() string {
	return fmt.Sprintf("message %d of the data is no %s: %s", e.Number, e.Message, e.Text)
}

// Reader reads messages from a stream of JSON values.
type Reader struct {
	codec Codec
	ctx   context.Context
	dec   *json.Decoder
	desc  protoreflect.MessageDescriptor
	n     int
}

// NewReader reads messages of type desc from r. ctx bounds what the source is
// asked for on the way.
func (c Codec) NewReader(ctx context.Context, desc protoreflect.MessageDescriptor, r io.Reader) *Reader {
	return &Reader{codec: c, ctx: ctx, dec: json.NewDecoder(r), desc: desc}
}

// Next returns the next message, io.EOF after the last, or a *BadJSON.
func (r *Reader) Next() (*dynamicpb.Message, error) {
	var raw json.RawMessage
	err := r.dec.Decode(&raw)
	if errors.Is(err, io.EOF) {
		return nil, io.EOF
	}
	r.n++
	if err != nil {
		return nil, &BadJSON{r.n, r.desc.FullName(), r.syntax(err)}
	}
	m := dynamicpb.NewMessage(r.desc)
	o := protojson.UnmarshalOptions{DiscardUnknown: r.codec.AllowUnknown, Resolver: types{r.ctx, r.codec.Source}}
	if err := o.Unmarshal(raw, m); err != nil {
		return nil, &BadJSON{r.n, r.desc.FullName(), r.explain(err)}
	}
	return m, nil
}

func (r *Reader) syntax(err error) string {
	var s *json.SyntaxError
	switch {
	case errors.As(err, &s):
		return fmt.Sprintf("it is no JSON: %v, at byte %d", err, s.Offset)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "it is no JSON: it ends in the middle of a value"
	}
	return err.Error()
}

var unknownField = regexp.MustCompile(`unknown field "([^"]*)"`)

// explain takes the package's name off the error of protojson, which varies
// its white space on purpose, and says which fields there are.
func (r *Reader) explain(err error) string {
	text := strings.Join(strings.Fields(strings.ReplaceAll(err.Error(), "\u00a0", " ")), " ")
	text = strings.TrimPrefix(text, "proto: ")
	m := unknownField.FindStringSubmatch(text)
	if m == nil {
		return text
	}
	owner, like := nearestField(r.desc, m[1], map[protoreflect.FullName]bool{})
	if like != "" {
		return fmt.Sprintf("%s; did you mean %q of %s?", text, like, owner)
	}
	names := fieldNames(r.desc)
	if len(names) == 0 {
		return text + "; it has no fields"
	}
	return fmt.Sprintf("%s; %s has %s", text, r.desc.FullName(), strings.Join(names, ", "))
}

func fieldNames(d protoreflect.MessageDescriptor) []string {
	var all []string
	for i := range d.Fields().Len() {
		all = append(all, string(d.Fields().Get(i).Name()))
	}
	return all
}

// nearestField looks for a field with a name like it, in d and below.
func nearestField(d protoreflect.MessageDescriptor, name string, seen map[protoreflect.FullName]bool) (protoreflect.FullName, string) {
	if seen[d.FullName()] {
		return "", ""
	}
	seen[d.FullName()] = true
	if n := near.Name(name, fieldNames(d)); n != "" {
		return d.FullName(), n
	}
	for i := range d.Fields().Len() {
		if sub := d.Fields().Get(i).Message(); sub != nil {
			if owner, n := nearestField(sub, name, seen); n != "" {
				return owner, n
			}
		}
	}
	return "", ""
}

// Format writes a message as JSON. What is missing of it, such as required
// fields of a template, is no error.
func (c Codec) Format(ctx context.Context, m *dynamicpb.Message) ([]byte, error) {
	known := types{ctx, c.Source}
	m = extended(m, known)
	o := protojson.MarshalOptions{EmitDefaultValues: c.EmitDefaults, AllowPartial: true, Resolver: known}
	b, err := o.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("a %s cannot be shown as JSON: %w", m.Descriptor().FullName(), err)
	}
	return indent(b, c.Compact)
}

// extended is a message with its extensions, which whoever decoded it did not
// know, if it can have any.
func extended(m *dynamicpb.Message, known types) *dynamicpb.Message {
	if !extensible(m.Descriptor(), map[protoreflect.FullName]bool{}) {
		return m
	}
	again := dynamicpb.NewMessage(m.Descriptor())
	b, err := proto.MarshalOptions{AllowPartial: true}.Marshal(m)
	if err == nil {
		err = proto.UnmarshalOptions{AllowPartial: true, Resolver: known}.Unmarshal(b, again)
	}
	if err != nil {
		return m // without them it can be shown
	}
	return again
}

// extensible reports whether a message, or one below it, may have extensions.
func extensible(d protoreflect.MessageDescriptor, seen map[protoreflect.FullName]bool) bool {
	if d.ExtensionRanges().Len() > 0 {
		return true
	}
	seen[d.FullName()] = true
	for i := range d.Fields().Len() {
		if sub := d.Fields().Get(i).Message(); sub != nil && !seen[sub.FullName()] && extensible(sub, seen) {
			return true
		}
	}
	return false
}

// indent takes out the white space that protojson varies on purpose.
func indent(b []byte, compact bool) ([]byte, error) {
	var out strings.Builder
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if !compact {
		enc.SetIndent("", "  ")
	}
	if err := enc.Encode(json.RawMessage(b)); err != nil {
		return nil, err
	}
	return []byte(strings.TrimSuffix(out.String(), "\n")), nil
}

// Template returns a message with every field set to its default, one element
// in lists and maps, and nested messages to a depth of three.
func Template(d protoreflect.MessageDescriptor) *dynamicpb.Message { return template(d, 3) }

func template(d protoreflect.MessageDescriptor, depth int) *dynamicpb.Message {
	m := dynamicpb.NewMessage(d)
	if depth == 0 || d.FullName().Parent() == "google.protobuf" {
		return m
	}
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		switch {
		case f.IsMap():
			if f.MapValue().Message() != nil {
				m.Mutable(f).Map().Set(f.MapKey().Default().MapKey(), protoreflect.ValueOfMessage(template(f.MapValue().Message(), depth-1)))
			} else {
				m.Mutable(f).Map().Set(f.MapKey().Default().MapKey(), f.MapValue().Default())
			}
		case f.IsList() && f.Message() != nil:
			m.Mutable(f).List().Append(protoreflect.ValueOfMessage(template(f.Message(), depth-1)))
		case f.IsList():
			m.Mutable(f).List().Append(element(f))
		case f.ContainingOneof() != nil && !f.HasOptionalKeyword() && f != f.ContainingOneof().Fields().Get(0): // one of them only
		case f.Message() != nil:
			m.Set(f, protoreflect.ValueOfMessage(template(f.Message(), depth-1)))
		case f.HasPresence():
			m.Set(f, f.Default())
		}
	}
	return m
}

// element is the default of a list's elements: lists themselves have none.
func element(f protoreflect.FieldDescriptor) protoreflect.Value {
	switch f.Kind() {
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(f.Enum().Values().Get(0).Number())
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(false)
	case protoreflect.StringKind:
		return protoreflect.ValueOfString("")
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes(nil)
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return protoreflect.ValueOfInt32(0)
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(0)
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(0)
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(0)
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(0)
	}
	return protoreflect.ValueOfInt64(0)
}

// types resolves what google.protobuf.Any holds, and extensions: the source
// first, then what this program was compiled with.
type types struct {
	ctx context.Context
	src Source
}

// FindMessageByName implements protoregistry.MessageTypeResolver.
func (t types) FindMessageByName(name protoreflect.FullName) (protoreflect.MessageType, error) {
	if mt, err := protoregistry.GlobalTypes.FindMessageByName(name); err == nil || t.src == nil {
		return mt, err
	}
	d, err := t.src.Find(t.ctx, name)
	if err != nil {
		return nil, notFound(err)
	}
	m, ok := d.(protoreflect.MessageDescriptor)
	if !ok {
		return nil, protoregistry.NotFound
	}
	return dynamicpb.NewMessageType(m), nil
}

// FindMessageByURL implements protoregistry.MessageTypeResolver.
func (t types) FindMessageByURL(url string) (protoreflect.MessageType, error) {
	return t.FindMessageByName(protoreflect.FullName(url[1+strings.LastIndexByte(url, '/'):]))
}

// FindExtensionByName implements protoregistry.ExtensionTypeResolver.
func (t types) FindExtensionByName(name protoreflect.FullName) (protoreflect.ExtensionType, error) {
	if xt, err := protoregistry.GlobalTypes.FindExtensionByName(name); err == nil || t.src == nil {
		return xt, err
	}
	d, err := t.src.Find(t.ctx, name)
	if err != nil {
		return nil, notFound(err)
	}
	x, ok := d.(protoreflect.ExtensionDescriptor)
	if !ok {
		return nil, protoregistry.NotFound
	}
	return dynamicpb.NewExtensionType(x), nil
}

// FindExtensionByNumber implements protoregistry.ExtensionTypeResolver.
func (t types) FindExtensionByNumber(message protoreflect.FullName, field protoreflect.FieldNumber) (protoreflect.ExtensionType, error) {
	if xt, err := protoregistry.GlobalTypes.FindExtensionByNumber(message, field); err == nil || t.src == nil {
		return xt, err
	}
	x, err := t.src.Extension(t.ctx, message, field)
	if err != nil {
		return nil, notFound(err)
	}
	return dynamicpb.NewExtensionType(x), nil
}

// notFound is what protojson expects of a name that nobody knows.
func notFound(err error) error {
	var n *NotFound
	if errors.As(err, &n) {
		return protoregistry.NotFound
	}
	return err
}
