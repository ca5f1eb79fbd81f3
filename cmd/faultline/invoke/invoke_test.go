// SPDX-License-Identifier: Apache-2.0

package invoke

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	reflectpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

func TestMethodName(t *testing.T) {
	for text, want := range map[string]string{
		"a.B/C": "a.B C", "/a.B/C": "a.B C", "a.B.C": "a.B C", "B/C": "B C",
		"": "", "B": "", "/": "", "a.B/": "", "/C": "", "a b/C": "", "a.B/C D": "", "a..B/C": "",
	} {
		s, m, err := MethodName(text)
		if got := strings.TrimSpace(string(s) + " " + string(m)); got != want || (err == nil) != (want != "") {
			t.Errorf("MethodName(%q) = %q, %v; want %q", text, got, err, want)
		}
	}
}

// scripted answers reflection's questions from a function.
type scripted struct {
	grpc.ClientConnInterface
	answer func(method string, q *reflectpb.ServerReflectionRequest) (*reflectpb.ServerReflectionResponse, error)
	asked  int
}

type stream struct {
	grpc.ClientStream
	s      *scripted
	method string
	q      *reflectpb.ServerReflectionRequest
}

func (s *scripted) NewStream(_ context.Context, _ *grpc.StreamDesc, method string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	return &stream{s: s, method: method}, nil
}

func (s *stream) SendMsg(m any) error {
	s.q = m.(*reflectpb.ServerReflectionRequest)
	return nil
}

func (s *stream) CloseSend() error { return nil }

func (s *stream) RecvMsg(m any) error {
	if s.q == nil {
		return io.EOF
	}
	q := s.q
	s.q = nil
	s.s.asked++
	a, err := s.s.answer(s.method, q)
	if err == nil {
		proto.Merge(m.(proto.Message), a)
	}
	return err
}

func files(all ...*descriptorpb.FileDescriptorProto) *reflectpb.ServerReflectionResponse {
	a := new(reflectpb.FileDescriptorResponse)
	for _, f := range all {
		b, err := proto.Marshal(f)
		if err != nil {
			panic(err)
		}
		a.FileDescriptorProto = append(a.FileDescriptorProto, b)
	}
	return &reflectpb.ServerReflectionResponse{MessageResponse: &reflectpb.ServerReflectionResponse_FileDescriptorResponse{FileDescriptorResponse: a}}
}

func refused(code codes.Code) *reflectpb.ServerReflectionResponse {
	return &reflectpb.ServerReflectionResponse{MessageResponse: &reflectpb.ServerReflectionResponse_ErrorResponse{ErrorResponse: &reflectpb.ErrorResponse{ErrorCode: int32(code), ErrorMessage: "no"}}}
}

func file(name string, deps ...string) *descriptorpb.FileDescriptorProto {
	return &descriptorpb.FileDescriptorProto{Name: proto.String(name), Package: proto.String("p"), Dependency: deps, Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{{Name: proto.String("M_" + strings.TrimSuffix(name, ".proto"))}}}
}

// TestReflectionMisbehaves: whatever a server sends, there is an answer.
func TestReflectionMisbehaves(t *testing.T) {
	for _, tc := range []struct {
		name   string
		answer func(method string, q *reflectpb.ServerReflectionRequest) (*reflectpb.ServerReflectionResponse, error)
		want   string // of the error; "" is success
	}{
		{"nothing", func(string, *reflectpb.ServerReflectionRequest) (*reflectpb.ServerReflectionResponse, error) {
			return nil, io.EOF
		}, "ended without an answer"},
		{"an empty answer", func(string, *reflectpb.ServerReflectionRequest) (*reflectpb.ServerReflectionResponse, error) {
			return new(reflectpb.ServerReflectionResponse), nil
		}, "ended without an answer"},
		{"refused", func(string, *reflectpb.ServerReflectionRequest) (*reflectpb.ServerReflectionResponse, error) {
			return refused(codes.PermissionDenied), nil
		}, `did not describe "p.M_a": PermissionDenied: "no"`},
		{"not found", func(string, *reflectpb.ServerReflectionRequest) (*reflectpb.ServerReflectionResponse, error) {
			return refused(codes.NotFound), nil
		}, `does not have "p.M_a"`},
		{"no file", func(string, *reflectpb.ServerReflectionRequest) (*reflectpb.ServerReflectionResponse, error) {
			return files(), nil
		}, `does not have "p.M_a"`},
		{"another file", func(string, *reflectpb.ServerReflectionRequest) (*reflectpb.ServerReflectionResponse, error) {
			return files(file("b.proto")), nil
		}, `did you mean "p.M_b"?`},
		{"garbage", func(string, *reflectpb.ServerReflectionRequest) (*reflectpb.ServerReflectionResponse, error) {
			a := files(file("a.proto"))
			a.GetFileDescriptorResponse().FileDescriptorProto[0] = []byte{0xff}
			return a, nil
		}, "no FileDescriptorProto"},
		{"a circle", func(_ string, q *reflectpb.ServerReflectionRequest) (*reflectpb.ServerReflectionResponse, error) {
			return files(file("a.proto", "b.proto"), file("b.proto", "a.proto")), nil
		}, "imports itself"},
		{"nonsense", func(string, *reflectpb.ServerReflectionRequest) (*reflectpb.ServerReflectionResponse, error) {
			f := file("a.proto")
			f.MessageType = append(f.MessageType, f.MessageType[0])
			return files(f), nil
		}, "makes no sense"},
		{"a missing import", func(_ string, q *reflectpb.ServerReflectionRequest) (*reflectpb.ServerReflectionResponse, error) {
			if q.GetFileByFilename() != "" {
				return refused(codes.NotFound), nil
			}
			return files(file("a.proto", "nowhere.proto")), nil
		}, ""},
		{"a well-known import", func(_ string, q *reflectpb.ServerReflectionRequest) (*reflectpb.ServerReflectionResponse, error) {
			if q.GetFileByFilename() != "" {
				return refused(codes.NotFound), nil
			}
			return files(file("a.proto", "google/protobuf/timestamp.proto")), nil
		}, ""},
		{"the import on demand", func(_ string, q *reflectpb.ServerReflectionRequest) (*reflectpb.ServerReflectionResponse, error) {
			if q.GetFileByFilename() == "b.proto" {
				return files(file("b.proto")), nil
			}
			return files(file("a.proto", "b.proto")), nil
		}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := &scripted{answer: tc.answer}
			d, err := NewReflection(s, 4<<20).Find(t.Context(), "p.M_a")
			switch {
			case tc.want == "" && (err != nil || d.FullName() != "p.M_a"):
				t.Errorf("Find = %v, %v; want p.M_a", d, err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("Find = %v, %v; want %q", d, err, tc.want)
			}
			if s.asked > 10 {
				t.Errorf("%d questions were asked", s.asked)
			}
		})
	}
}

func request(t testing.TB, name protoreflect.FullName) protoreflect.MessageDescriptor {
	t.Helper()
	d, err := protodesc.FileOptions{AllowUnresolvable: true}.New(protodesc.ToFileDescriptorProto(testpb.File_grpc_testing_messages_proto), protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	return d.Messages().ByName(name.Name())
}

func TestReader(t *testing.T) {
	desc := request(t, "SimpleRequest")
	r := Codec{}.NewReader(t.Context(), desc, strings.NewReader(`{"responseSize":1} {"response_size":2}`+"\n"))
	for i := range 2 {
		m, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		b, err := Codec{Compact: true}.Format(t.Context(), m)
		if want := []string{`{"responseSize":1}`, `{"responseSize":2}`}[i]; err != nil || string(b) != want {
			t.Errorf("message %d is %s, %v; want %s", i+1, b, err, want)
		}
	}
	if _, err := r.Next(); err != io.EOF {
		t.Errorf("the end is %v", err)
	}
	r = Codec{AllowUnknown: true}.NewReader(t.Context(), desc, strings.NewReader(`{"nobody":1}`))
	if _, err := r.Next(); err != nil {
		t.Errorf("an unknown field that is allowed: %v", err)
	}
}

// FuzzReader: what is no message is said to be none, and what is one comes out
// again.
func FuzzReader(f *testing.F) {
	for _, s := range []string{`{}`, `{"responseSize":1}`, `{"payload":{"body":"AA=="}}`, `[`, `{"x":`, `null`, `"a" {}`, "\xff", `{"respons_size":1}`} {
		f.Add(s)
	}
	desc := request(f, "SimpleRequest")
	f.Fuzz(func(t *testing.T, text string) {
		r := Codec{}.NewReader(t.Context(), desc, strings.NewReader(text))
		for range 10 {
			m, err := r.Next()
			if err == io.EOF {
				return
			}
			var bad *BadJSON
			if err != nil {
				if !errors.As(err, &bad) || bad.Text == "" {
					t.Fatalf("%q: %v, want a *BadJSON", text, err)
				}
				return
			}
			if _, err := (Codec{}).Format(t.Context(), m); err != nil {
				t.Fatalf("%q: %v", text, err)
			}
		}
	})
}

func TestTemplate(t *testing.T) {
	b, err := Codec{EmitDefaults: true, Compact: true}.Format(t.Context(), Template(request(t, "StreamingOutputCallRequest")))
	if err != nil || !strings.Contains(string(b), `"responseParameters":[{"size":0`) {
		t.Errorf("the template is %s, %v", b, err)
	}
}

// TestExtensions: what a codec did not know of an answer is shown by its name,
// at any depth.
func TestExtensions(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "x.proto")
	text := `syntax = "proto2"; package x; message Out { repeated M m = 1; } message M { required int32 a = 1; extensions 100 to max; } extend M { optional string ext = 100; }`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	src, err := CompileProto(t.Context(), nil, []string{file})
	if err != nil {
		t.Fatal(err)
	}
	d, err := src.Find(t.Context(), "x.Out")
	if err != nil {
		t.Fatal(err)
	}
	m := dynamicpb.NewMessage(d.(protoreflect.MessageDescriptor))
	if err := proto.Unmarshal([]byte("\x0a\x07\x08\x01\xa2\x06\x02hi"), m); err != nil { // m { a: 1 [x.ext]: "hi" }
		t.Fatal(err)
	}
	if b, err := (Codec{Source: src, Compact: true}).Format(t.Context(), m); err != nil || string(b) != `{"m":[{"a":1,"[x.ext]":"hi"}]}` {
		t.Errorf("the message is %s, %v", b, err)
	}
}
