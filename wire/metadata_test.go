// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/h2/hpack"
)

// show makes a list of fields readable: "name=value name=value".
func show(fields []hpack.Field) string {
	var s []string
	for _, f := range fields {
		s = append(s, f.Name+"="+f.Value)
	}
	return strings.Join(s, " ")
}

func TestAppendMetadata(t *testing.T) {
	for _, c := range []struct {
		name string
		md   metadata.MD
		want string
	}{
		{"nothing", nil, ""},
		{"sorted, values in order", metadata.MD{"b": {"2", "1"}, "a": {"x"}, "c": {}}, "a=x b=2 b=1"},
		{"binary, unpadded", metadata.MD{"k-bin": {"a", "\x00\xff", ""}}, "k-bin=YQ k-bin=AP8 k-bin="},
		{"upper case", metadata.MD{"X-Trace.Id_1": {"v"}}, "x-trace.id_1=v"},
		{"empty value", metadata.MD{"k": {""}}, "k="},
		{"surrounding spaces", metadata.MD{"k": {"  a b "}}, "k=a b"},
		{"the transport's names", metadata.MD{
			":authority": {"h"}, "content-type": {"application/grpc"}, "Content-Type": {"text/html"}, "user-agent": {"u"}, "te": {"trailers"},
			"grpc-accept-encoding": {"zstd"}, "host": {"h"}, "content-length": {"5"}, "connection": {"close"}, "keep-alive": {"1"},
			"proxy-connection": {"x"}, "transfer-encoding": {"chunked"}, "upgrade": {"h2c"}, "kept": {"yes"},
		}, "kept=yes"},
		{"grpc- names that work through metadata", metadata.MD{"grpc-previous-rpc-attempts": {"1"}, "grpc-retry-pushback-ms": {"10"}, "grpc-trace-bin": {"a"}, "grpc-custom": {"b"}},
			"grpc-custom=b grpc-previous-rpc-attempts=1 grpc-retry-pushback-ms=10 grpc-trace-bin=YQ"},
	} {
		t.Run(c.name, func(t *testing.T) {
			first := hpack.Field{Name: "first", Value: "kept"}
			got, err := AppendMetadata([]hpack.Field{first}, c.md)
			if err != nil {
				t.Fatal(err)
			}
			if got[0] != first || show(got[1:]) != c.want {
				t.Errorf("got %s, want %s", show(got), c.want)
			}
		})
	}
}

func TestAppendMetadataManyKeys(t *testing.T) {
	md := metadata.MD{}
	for i := range 100 {
		md[fmt.Sprintf("k%03d", i)] = []string{"v"}
	}
	got, err := AppendMetadata(nil, md)
	if err != nil || len(got) != 100 || got[0].Name != "k000" || got[99].Name != "k099" {
		t.Errorf("%d fields, %v", len(got), err)
	}
}

func TestIllegalMetadata(t *testing.T) {
	const secret = "hunter2"
	for _, c := range []struct{ key, value, text string }{
		{"", secret, "the name is empty"},
		{":path", secret, "pseudo-header"},
		{"Grpc-Timeout", secret, "give the context a deadline"},
		{"grpc-encoding", secret, "choose a compressor"},
		{"grpc-status", secret, "return a status"},
		{"grpc-message", secret, "return a status"},
		{"grpc-message-type", secret, "gRPC's own"},
		{"a b", secret, "none of a-z"},
		{"a:b", secret, "none of a-z"},
		{"ключ", secret, "none of a-z"},
		{"a\r\nb", secret, "none of a-z"},
		{"a\x00", secret, "none of a-z"},
		{"k", secret + "\n", "not printable ASCII"},
		{"k", secret + "\x7f", "not printable ASCII"},
		{"k", secret + "é", "not printable ASCII"},
		{"k", "\t" + secret, "not printable ASCII"},
		{strings.Repeat("a", 5000) + "!", secret, "none of a-z"},
	} {
		_, err := AppendMetadata(nil, metadata.MD{c.key: {"fine", c.value}})
		f := wantFault(t, err, "wire.illegal-metadata", codes.Internal, fault.Local, fault.No, c.text)
		if f.Evidence().Header != clip(c.key) {
			t.Errorf("evidence names %q, want %q", f.Evidence().Header, clip(c.key))
		}
		if strings.Contains(fmt.Sprintf("%v %+v", f, f.Evidence()), secret) {
			t.Errorf("the value is in the fault: %v", f)
		}
		if len(f.Message()) > 1500 {
			t.Errorf("message of %d bytes", len(f.Message()))
		}
	}
}

func TestDecodeMetadataInto(t *testing.T) {
	for _, c := range []struct {
		name, value string
		want        []string // nil: an error
	}{
		{"k", "a, b,c", []string{"a, b,c"}}, // only binary values are split
		{"k-bin", "YQ==", []string{"a"}},
		{"k-bin", "YQ", []string{"a"}},
		{"k-bin", "YWJj", []string{"abc"}},
		{"k-bin", "", []string{""}},
		{"k-bin", "YQ,YWI=, YWJj", []string{"a", "ab", "abc"}},
		{"k-bin", "YQ,,YQ", []string{"a", "", "a"}},
		{"k-bin", "YQ=", nil},
		{"k-bin", "Y", nil},
		{"k-bin", "a-_b", nil}, // the URL alphabet is not base64's
		{"k-bin", "YQ,!", nil},
	} {
		md := metadata.MD{}
		err := DecodeMetadataInto(md, c.name, c.value)
		if (err != nil) != (c.want == nil) || (err == nil && !reflect.DeepEqual(md[c.name], c.want)) {
			t.Errorf("%s: %q gives %q, %v, want %q", c.name, c.value, md[c.name], err, c.want)
		}
	}
}

func TestBuilderKeepsNamesApart(t *testing.T) {
	// All single values lie in one slab: a second value of a name, or an
	// append by the program, must not reach the next name's.
	var b mdBuilder
	for _, f := range []string{"a 1", "b 2", "a 3", "c-bin YQ", "b 4", "d 5", "e 6", "e 7"} {
		name, value, _ := strings.Cut(f, " ")
		if err := b.add(name, value, 3); err != nil {
			t.Fatal(err)
		}
	}
	b.md["d"] = append(b.md["d"], "x")
	want := metadata.MD{"a": {"1", "3"}, "b": {"2", "4"}, "c-bin": {"a"}, "d": {"5", "x"}, "e": {"6", "7"}}
	if !reflect.DeepEqual(b.md, want) {
		t.Errorf("got %v, want %v", b.md, want)
	}
}

func FuzzMetadata(f *testing.F) {
	f.Add("key", "value")
	f.Add("key-bin", "\x00\xff,")
	f.Add("Key-Bin", "")
	f.Add(":path", "/a")
	f.Add("grpc-status", "0")
	f.Add("k", " x ")
	f.Add("k-bin", "YQ==,YQ")
	f.Fuzz(func(t *testing.T, name, value string) {
		DecodeMetadataInto(metadata.MD{}, name, value) // any answer, no panic
		fields, err := AppendMetadata(nil, metadata.MD{name: {value}})
		if err != nil {
			if fl, ok := fault.From(err); !ok || fl.ID() != "wire.illegal-metadata" {
				t.Fatalf("error %v", err)
			}
			return
		}
		for _, fd := range fields {
			md := metadata.MD{}
			if err := DecodeMetadataInto(md, fd.Name, fd.Value); err != nil {
				t.Fatalf("what was sent is not accepted: %v", err)
			}
			want := value
			if !strings.HasSuffix(fd.Name, "-bin") {
				want = strings.Trim(value, " ")
			}
			if got := md[strings.ToLower(name)]; len(got) != 1 || got[0] != want {
				t.Errorf("%q: %q came back as %q", name, value, got)
			}
		}
	})
}

func wantFault(t *testing.T, err error, id fault.ID, code codes.Code, side fault.Side, processed fault.Processed, text string) *fault.Fault {
	t.Helper()
	f, ok := fault.From(err)
	if !ok {
		t.Fatalf("error %v is no fault, want %s", err, id)
	}
	if f.ID() != id || f.Code() != code || f.Side() != side || f.Processed() != processed || !strings.Contains(f.Message(), text) {
		t.Errorf("fault %s %v %v %v %q", f.ID(), f.Code(), f.Side(), f.Processed(), f.Message())
		t.Errorf(" want %s %v %v %v %q", id, code, side, processed, text)
	}
	return f
}
