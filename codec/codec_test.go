// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/faultline-rpc/faultline/fault"
)

var generous = Limit{Bytes: DefaultMaxSend, Option: "MaxCallSendMsgSize"}

// Codecs of a user. Registration is for init functions only.

type reversed struct{ kept *[]byte }

var reversedKept []byte

func init() {
	encoding.RegisterCodecV2(reversed{kept: &reversedKept})
	encoding.RegisterCodec(older{})
}

func (reversed) Name() string { return "Test-Reversed" }

// Marshal returns two pieces, as large messages do.
func (reversed) Marshal(v any) (mem.BufferSlice, error) {
	s, ok := v.(string)
	if !ok {
		return nil, errors.New("no string")
	}
	p := turn([]byte(s))
	return mem.BufferSlice{mem.SliceBuffer(p[:len(p)/2]), mem.SliceBuffer(p[len(p)/2:])}, nil
}

// Unmarshal keeps what it was given, which a CodecV2 may.
func (c reversed) Unmarshal(data mem.BufferSlice, v any) error {
	data.Ref()
	*c.kept = data[0].ReadOnlyData()
	*v.(*string) = string(turn(data.Materialize()))
	return nil
}

type older struct{}

func (older) Name() string { return "test-older" }

func (older) Marshal(v any) ([]byte, error) {
	s, ok := v.(string)
	if !ok {
		return nil, errors.New("no string")
	}
	return []byte(s), nil
}

func (older) Unmarshal(p []byte, v any) error {
	*v.(*[]byte) = p // an older codec may keep its data, too
	return nil
}

func turn(p []byte) []byte {
	q := make([]byte, len(p))
	for i := range p {
		q[len(p)-1-i] = p[i]
	}
	return q
}

// legacy is a message of the first protobuf API.
type legacy struct {
	Text string `protobuf:"bytes,1,opt,name=text,proto3"`
}

func (m *legacy) Reset()         { *m = legacy{} }
func (m *legacy) String() string { return m.Text }
func (*legacy) ProtoMessage()    {}

func mustEncode(t *testing.T, c Codec, m any) []byte {
	t.Helper()
	b, s, err := c.Encode(m, nil, generous)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Free()
	p := bytes.Clone(b.B)
	n := len(p) - PrefixLen
	if p[0] != 0 || int(binary.BigEndian.Uint32(p[1:])) != n {
		t.Fatalf("prefix % x, want flag 0 and length %d", p[:PrefixLen], n)
	}
	if want := (Sizes{Length: n, CompressedLength: n, WireLength: len(p)}); s != want {
		t.Fatalf("sizes %+v, want %+v", s, want)
	}
	return p[PrefixLen:]
}

func TestProto(t *testing.T) {
	for _, c := range []Codec{{}, lookup(t, ""), lookup(t, "proto"), lookup(t, "PROTO")} {
		if c != (Codec{}) {
			t.Errorf("%+v does not marshal directly", c)
		}
		if c.Name() != "proto" {
			t.Errorf("name %q, want proto", c.Name())
		}
	}
	in := wrapperspb.String(strings.Repeat("x", 1000))
	p := mustEncode(t, Codec{}, in)
	if want, _ := proto.Marshal(in); !bytes.Equal(p, want) {
		t.Error("the payload is not what proto.Marshal makes")
	}
	out := new(wrapperspb.StringValue)
	if err := (Codec{}).Decode(p, out); err != nil || !proto.Equal(in, out) {
		t.Errorf("decoded %v, %v", out, err)
	}
	for i := range p { // p was lent
		p[i] = 0
	}
	if !proto.Equal(in, out) {
		t.Error("the decoded message refers to the bytes lent")
	}
}

func TestProtoFirstAPI(t *testing.T) {
	p := mustEncode(t, Codec{}, &legacy{Text: "old"})
	var m legacy
	if err := (Codec{}).Decode(p, &m); err != nil || m.Text != "old" {
		t.Errorf("decoded %q, %v", m.Text, err)
	}
}

func TestNilMessages(t *testing.T) {
	for _, m := range []any{nil, (*wrapperspb.StringValue)(nil), new(wrapperspb.StringValue)} {
		if p := mustEncode(t, Codec{}, m); len(p) != 0 {
			t.Errorf("%T: payload % x, want none", m, p)
		}
	}
}

func TestRegisteredCodecs(t *testing.T) {
	c := lookup(t, "TEST-reversed")
	if c.Name() != "test-reversed" {
		t.Errorf("name %q", c.Name())
	}
	p := mustEncode(t, c, "abc")
	if string(p) != "cba" {
		t.Errorf("payload %q, want cba", p)
	}
	var s string
	if err := c.Decode(p, &s); err != nil || s != "abc" {
		t.Errorf("decoded %q, %v", s, err)
	}
	p[0] = 'X'
	if string(reversedKept) != "cba" {
		t.Errorf("a codec that keeps its data sees %q after the bytes lent were reused", reversedKept)
	}

	c = lookup(t, "test-older")
	if p := mustEncode(t, c, "abc"); string(p) != "abc" {
		t.Errorf("payload %q, want abc", p)
	}
	var kept []byte
	lent := []byte("abc")
	if err := c.Decode(lent, &kept); err != nil {
		t.Fatal(err)
	}
	lent[0] = 'X'
	if string(kept) != "abc" {
		t.Errorf("an older codec that keeps its data sees %q", kept)
	}

	if _, ok := Lookup("test-unknown"); ok {
		t.Error("an unregistered subtype was found")
	}
}

// wrapped is the built-in codec with something added, as users do to count.
type wrapped struct {
	encoding.CodecV2
	calls *int
}

func (w wrapped) Marshal(v any) (mem.BufferSlice, error) { *w.calls++; return w.CodecV2.Marshal(v) }

func TestShortcutYieldsToRegisteredProto(t *testing.T) {
	builtIn := encoding.GetCodecV2("proto")
	defer encoding.RegisterCodecV2(builtIn)
	calls := 0
	for _, user := range []encoding.CodecV2{wrapped{builtIn, &calls}, &wrapped{builtIn, &calls}} {
		encoding.RegisterCodecV2(user)
		mustEncode(t, lookup(t, ""), wrapperspb.Int64(1))
	}
	if calls != 2 {
		t.Errorf("the registered codec was called %d times, want 2", calls)
	}
}

func TestMarshalFaults(t *testing.T) {
	for _, c := range []struct {
		codec Codec
		m     any
		text  string
	}{
		{Codec{}, 42, `error while marshaling: codec "proto", int: want a proto.Message`},
		{Codec{}, wrapperspb.String("\xff"), `error while marshaling: codec "proto", *wrapperspb.StringValue: `},
		{lookup(t, "test-reversed"), 42, `error while marshaling: codec "test-reversed", int: no string`},
		{lookup(t, "test-older"), 42, `error while marshaling: codec "test-older", int: no string`},
	} {
		_, _, err := c.codec.Encode(c.m, nil, generous)
		wantFault(t, err, fault.CodecMarshal, codes.Internal, c.text)
		if errors.Unwrap(err) == nil {
			t.Errorf("%v has no cause", err)
		}
	}
}

func TestDecodeErrors(t *testing.T) {
	err := Codec{}.Decode(nil, 42)
	if err == nil || !strings.Contains(err.Error(), `codec "proto" cannot unmarshal into int`) {
		t.Errorf("error %v", err)
	}
	if err := (Codec{}).Decode([]byte{0xff}, new(wrapperspb.StringValue)); err == nil {
		t.Error("a broken message was decoded")
	}
}

func TestSendLimit(t *testing.T) {
	m := wrapperspb.Bytes(make([]byte, 98)) // 100 bytes marshaled
	for _, c := range []struct {
		codec Codec
		m     any
	}{{Codec{}, m}, {lookup(t, "test-reversed"), strings.Repeat("x", 100)}, {lookup(t, "test-older"), strings.Repeat("x", 100)}} {
		b, _, err := c.codec.Encode(c.m, nil, Limit{Bytes: 100})
		if err != nil {
			t.Fatalf("%s: a message of the limit's size: %v", c.codec.Name(), err)
		}
		b.Free()
		_, _, err = c.codec.Encode(c.m, nil, Limit{Bytes: 99, Option: "MaxCallSendMsgSize"})
		f := wantFault(t, err, fault.CodecTooLarge, codes.ResourceExhausted,
			"codec.too-large: trying to send message larger than max: 100 bytes, this side's limit MaxCallSendMsgSize allows 99")
		if ev := f.Evidence(); ev.Option != "MaxCallSendMsgSize" || ev.Limit != 99 || ev.Size != 100 {
			t.Errorf("evidence %+v", ev)
		}
	}
	// Without any limit, four bytes of length are the limit.
	most := int64(math.MaxUint32)
	if int64(int(most)) != most {
		return // an int cannot say more
	}
	if err := check(Limit{Bytes: math.MaxInt}, Sent, int(most)); err != nil {
		t.Error(err)
	}
	wantFault(t, check(Limit{Bytes: math.MaxInt}, Sent, int(most+1)), fault.CodecTooLarge, codes.ResourceExhausted, "can say 4294967295")
}

func lookup(t *testing.T, subtype string) Codec {
	t.Helper()
	c, ok := Lookup(subtype)
	if !ok {
		t.Fatalf("no codec %q", subtype)
	}
	return c
}

func wantFault(t *testing.T, err error, e *fault.Entry, code codes.Code, text string) *fault.Fault {
	t.Helper()
	f, ok := fault.From(err)
	if !ok {
		t.Fatalf("error %v is no fault, want %s", err, e.ID)
	}
	if f.ID() != e.ID || f.Code() != code || f.Side() != fault.Local || f.Processed() != fault.Maybe || !strings.Contains(f.Message(), text) {
		t.Errorf("fault %s", describe(f))
		t.Errorf(" want %s %v local maybe %q", e.ID, code, text)
	}
	return f
}

func describe(f *fault.Fault) string {
	return fmt.Sprintf("%s %v %v %v %q", f.ID(), f.Code(), f.Side(), f.Processed(), f.Message())
}
