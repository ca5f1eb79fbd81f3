// SPDX-License-Identifier: Apache-2.0

package invoke

import (
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Describe writes a descriptor the way a .proto file would have it, with full
// names of types.
func Describe(d protoreflect.Descriptor) string {
	var p printer
	p.line(0, fmt.Sprintf("// %s is %s, of %s.", d.FullName(), kindOf(d), fileOf(d)))
	p.any(0, d)
	return p.String()
}

func fileOf(d protoreflect.Descriptor) string {
	if f := d.ParentFile(); f != nil && f.Path() != "" {
		return f.Path()
	}
	return "an unnamed file"
}

// kindOf says what a descriptor describes.
func kindOf(d protoreflect.Descriptor) string {
	switch d := d.(type) {
	case protoreflect.ServiceDescriptor:
		return "a service"
	case protoreflect.MethodDescriptor:
		return "a method"
	case protoreflect.MessageDescriptor:
		return "a message"
	case protoreflect.EnumDescriptor:
		return "an enum"
	case protoreflect.EnumValueDescriptor:
		return "an enum's value"
	case protoreflect.OneofDescriptor:
		return "a oneof"
	case protoreflect.FieldDescriptor:
		if d.IsExtension() {
			return "an extension"
		}
		return "a field"
	}
	return "a file"
}

type printer struct{ strings.Builder }

func (p *printer) line(depth int, text string) {
	p.WriteString(strings.Repeat("  ", depth) + text + "\n")
}

func (p *printer) comment(depth int, d protoreflect.Descriptor) {
	if d.ParentFile() == nil {
		return
	}
	text := d.ParentFile().SourceLocations().ByDescriptor(d).LeadingComments
	for l := range strings.Lines(text) {
		p.line(depth, strings.TrimRight("// "+strings.TrimSpace(l), " "))
	}
}

func (p *printer) any(depth int, d protoreflect.Descriptor) {
	p.comment(depth, d)
	switch d := d.(type) {
	case protoreflect.ServiceDescriptor:
		p.block(depth, "service "+string(d.Name()), func() {
			for i := range d.Methods().Len() {
				p.any(depth+1, d.Methods().Get(i))
			}
		})
	case protoreflect.MethodDescriptor:
		p.line(depth, fmt.Sprintf("rpc %s ( %s ) returns ( %s );", d.Name(), streamed(d.IsStreamingClient(), d.Input()), streamed(d.IsStreamingServer(), d.Output())))
	case protoreflect.MessageDescriptor:
		p.message(depth, d)
	case protoreflect.EnumDescriptor:
		p.block(depth, "enum "+string(d.Name()), func() {
			for i := range d.Values().Len() {
				p.any(depth+1, d.Values().Get(i))
			}
		})
	case protoreflect.EnumValueDescriptor:
		p.line(depth, fmt.Sprintf("%s = %d;", d.Name(), d.Number()))
	case protoreflect.OneofDescriptor:
		p.block(depth, "oneof "+string(d.Name()), func() {
			for i := range d.Fields().Len() {
				p.any(depth+1, d.Fields().Get(i))
			}
		})
	case protoreflect.FieldDescriptor:
		if d.IsExtension() {
			p.block(depth, "extend ."+string(d.ContainingMessage().FullName()), func() { p.line(depth+1, field(d)) })
			return
		}
		p.line(depth, field(d))
	}
}

func (p *printer) block(depth int, head string, body func()) {
	p.line(depth, head+" {")
	body()
	p.line(depth, "}")
}

func (p *printer) message(depth int, d protoreflect.MessageDescriptor) {
	p.block(depth, "message "+string(d.Name()), func() {
		for i := range d.Fields().Len() {
			f := d.Fields().Get(i)
			switch o := f.ContainingOneof(); {
			case o == nil || o.IsSynthetic():
				p.any(depth+1, f)
			case o.Fields().Get(0) == f:
				p.any(depth+1, o)
			}
		}
		if r := ranges(d); r != "" {
			p.line(depth+1, "extensions "+r+";")
		}
		for i := range d.Enums().Len() {
			p.any(depth+1, d.Enums().Get(i))
		}
		for i := range d.Messages().Len() {
			if m := d.Messages().Get(i); !m.IsMapEntry() {
				p.any(depth+1, m)
			}
		}
	})
}

func streamed(stream bool, m protoreflect.MessageDescriptor) string {
	if stream {
		return "stream ." + string(m.FullName())
	}
	return "." + string(m.FullName())
}

func field(f protoreflect.FieldDescriptor) string {
	kind := typeOf(f)
	switch {
	case f.IsMap():
		kind = fmt.Sprintf("map<%s, %s>", typeOf(f.MapKey()), typeOf(f.MapValue()))
	case f.IsList():
		kind = "repeated " + kind
	case f.Cardinality() == protoreflect.Required:
		kind = "required " + kind
	case f.HasOptionalKeyword():
		kind = "optional " + kind
	}
	text := fmt.Sprintf("%s %s = %d", kind, f.Name(), f.Number())
	var options []string
	if f.HasDefault() {
		options = append(options, "default = "+defaultOf(f))
	}
	if !f.IsExtension() && f.JSONName() != defaultJSONName(string(f.Name())) {
		options = append(options, fmt.Sprintf("json_name = %q", f.JSONName()))
	}
	if len(options) > 0 {
		text += " [" + strings.Join(options, ", ") + "]"
	}
	return text + ";"
}

// defaultOf is the default that a field is declared with.
func defaultOf(f protoreflect.FieldDescriptor) string {
	switch f.Kind() {
	case protoreflect.EnumKind:
		return string(f.DefaultEnumValue().Name())
	case protoreflect.StringKind:
		return strconv.Quote(f.Default().String())
	case protoreflect.BytesKind:
		return strconv.Quote(string(f.Default().Bytes()))
	}
	return f.Default().String()
}

// ranges are the numbers that extensions of a message may have.
func ranges(d protoreflect.MessageDescriptor) string {
	var all []string
	for i := range d.ExtensionRanges().Len() {
		switch r := d.ExtensionRanges().Get(i); {
		case r[1] > protowire.MaxValidNumber:
			all = append(all, fmt.Sprintf("%d to max", r[0]))
		case r[1] == r[0]+1:
			all = append(all, fmt.Sprint(r[0]))
		default:
			all = append(all, fmt.Sprintf("%d to %d", r[0], r[1]-1))
		}
	}
	return strings.Join(all, ", ")
}

func typeOf(f protoreflect.FieldDescriptor) string {
	switch {
	case f.Message() != nil:
		return "." + string(f.Message().FullName())
	case f.Enum() != nil:
		return "." + string(f.Enum().FullName())
	}
	return f.Kind().String()
}

// defaultJSONName is the lowerCamelCase of a field's name.
func defaultJSONName(name string) string {
	var b strings.Builder
	up := false
	for _, r := range name {
		if r == '_' {
			up = true
			continue
		}
		if up && r >= 'a' && r <= 'z' {
			r -= 'a' - 'A'
		}
		up = false
		b.WriteRune(r)
	}
	return b.String()
}
