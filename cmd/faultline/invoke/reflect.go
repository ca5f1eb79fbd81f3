// SPDX-License-Identifier: Apache-2.0

package invoke

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	reflectpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/faultline-rpc/faultline/cmd/faultline/near"
)

// What a server may make this program keep.
const (
	maxFiles     = 10_000
	maxFileBytes = 256 << 20
)

// reflectionMethods are tried in this order; their messages are the same on
// the wire.
var reflectionMethods = []string{
	"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
	"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
}

// Reflection is a [Source] that asks the server, once for each file
// (https://github.com/grpc/grpc/blob/master/doc/server-reflection.md).
type Reflection struct {
	conn   grpc.ClientConnInterface
	opts   []grpc.CallOption
	cancel context.CancelFunc
	stream grpc.ClientStream // nil until asked

	protos map[string]*descriptorpb.FileDescriptorProto
	bytes  int
	files  *protoregistry.Files
	listed []string
}

// NewReflection makes a source that asks the server at the other end of conn.
// Close it.
func NewReflection(conn grpc.ClientConnInterface, opts ...grpc.CallOption) *Reflection {
	return &Reflection{conn: conn, opts: opts, protos: map[string]*descriptorpb.FileDescriptorProto{}, files: new(protoregistry.Files)}
}

// Close ends the stream to the server.
func (r *Reflection) Close() {
	if r.cancel != nil {
		r.cancel()
	}
	r.stream, r.cancel = nil, nil
}

// String implements Source.
func (r *Reflection) String() string { return "the server's reflection" }

// Silent is the error of a reflection service that ends its stream without an
// answer.
var Silent = errors.New("the server's reflection service ended without an answer")

// ask sends one question. The first picks the version. A stream that ended
// since the last question is opened again.
func (r *Reflection) ask(ctx context.Context, q *reflectpb.ServerReflectionRequest) (*reflectpb.ServerReflectionResponse, error) {
	if r.stream != nil {
		if a, err := exchange(r.stream, q); err == nil {
			return a, nil
		}
		r.Close()
	}
	var first error
	for _, method := range reflectionMethods {
		sctx, cancel := context.WithCancel(ctx)
		a, err := r.open(sctx, method, q)
		if err == nil {
			r.cancel = cancel
			return a, nil
		}
		cancel()
		first = cmpErr(first, err)
		if status.Code(err) != codes.Unimplemented {
			// What v1 was refused for says more, unless it was for being v1.
			if status.Code(first) == codes.Unimplemented {
				first = err
			}
			break
		}
	}
	return nil, first
}

func (r *Reflection) open(ctx context.Context, method string, q *reflectpb.ServerReflectionRequest) (*reflectpb.ServerReflectionResponse, error) {
	s, err := r.conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method, r.opts...)
	if err != nil {
		return nil, err
	}
	a, err := exchange(s, q)
	if err == nil {
		r.stream = s
	}
	return a, err
}

func exchange(s grpc.ClientStream, q *reflectpb.ServerReflectionRequest) (*reflectpb.ServerReflectionResponse, error) {
	if err := s.SendMsg(q); err != nil && !errors.Is(err, io.EOF) { // after EOF RecvMsg says why
		return nil, err
	}
	a := new(reflectpb.ServerReflectionResponse)
	err := s.RecvMsg(a)
	if errors.Is(err, io.EOF) {
		return nil, Silent
	}
	return a, err
}

// Services implements Source.
func (r *Reflection) Services(ctx context.Context) ([]string, error) {
	if r.listed != nil {
		return r.listed, nil
	}
	a, err := r.ask(ctx, &reflectpb.ServerReflectionRequest{MessageRequest: &reflectpb.ServerReflectionRequest_ListServices{ListServices: "*"}})
	if err != nil {
		return nil, err
	}
	if e := a.GetErrorResponse(); e != nil {
		return nil, refusal("list its services", e)
	}
	listed := []string{}
	for _, s := range a.GetListServicesResponse().GetService() {
		listed = append(listed, s.GetName())
	}
	slices.Sort(listed)
	r.listed = slices.Compact(listed)
	return r.listed, nil
}

func refusal(what string, e *reflectpb.ErrorResponse) error {
	return fmt.Errorf("the server's reflection did not %s: %v: %q", what, codes.Code(e.GetErrorCode()), e.GetErrorMessage())
}

// Find implements Source.
func (r *Reflection) Find(ctx context.Context, name protoreflect.FullName) (protoreflect.Descriptor, error) {
	if d, err := r.files.FindDescriptorByName(name); err == nil {
		return d, nil
	}
	a, err := r.ask(ctx, &reflectpb.ServerReflectionRequest{MessageRequest: &reflectpb.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: string(name)}})
	if err != nil {
		return nil, err
	}
	if e := a.GetErrorResponse(); e != nil {
		if codes.Code(e.GetErrorCode()) == codes.NotFound {
			return nil, r.notFound(ctx, name)
		}
		return nil, refusal(fmt.Sprintf("describe %q", name), e)
	}
	if err := r.take(ctx, a); err != nil {
		return nil, err
	}
	d, err := r.files.FindDescriptorByName(name)
	if err != nil {
		return nil, r.notFound(ctx, name)
	}
	return d, nil
}

// notFound looks for a name like it, as far as that is known.
func (r *Reflection) notFound(ctx context.Context, name protoreflect.FullName) error {
	all := names(r.files)
	if services, err := r.Services(ctx); err == nil {
		all = append(all, services...)
		if i := slices.Index(services, near.Name(string(name.Parent()), services)); i >= 0 {
			if s, ok := r.service(ctx, protoreflect.FullName(services[i])); ok {
				for j := range s.Methods().Len() {
					all = append(all, string(s.Methods().Get(j).FullName()))
				}
			}
		}
	}
	return &NotFound{Name: string(name), Source: r.String(), Nearest: near.Name(string(name), all)}
}

func (r *Reflection) service(ctx context.Context, name protoreflect.FullName) (protoreflect.ServiceDescriptor, bool) {
	a, err := r.ask(ctx, &reflectpb.ServerReflectionRequest{MessageRequest: &reflectpb.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: string(name)}})
	if err != nil || r.take(ctx, a) != nil {
		return nil, false
	}
	d, err := r.files.FindDescriptorByName(name)
	if err != nil {
		return nil, false
	}
	s, ok := d.(protoreflect.ServiceDescriptor)
	return s, ok
}

// Extension implements Source.
func (r *Reflection) Extension(ctx context.Context, message protoreflect.FullName, field protoreflect.FieldNumber) (protoreflect.ExtensionDescriptor, error) {
	if x, err := dynamicpb.NewTypes(r.files).FindExtensionByNumber(message, field); err == nil {
		return x.TypeDescriptor(), nil
	}
	a, err := r.ask(ctx, &reflectpb.ServerReflectionRequest{MessageRequest: &reflectpb.ServerReflectionRequest_FileContainingExtension{
		FileContainingExtension: &reflectpb.ExtensionRequest{ContainingType: string(message), ExtensionNumber: int32(field)},
	}})
	if err == nil {
		err = r.take(ctx, a)
	}
	if err != nil {
		return nil, err
	}
	x, err := dynamicpb.NewTypes(r.files).FindExtensionByNumber(message, field)
	if err != nil {
		return nil, err
	}
	return x.TypeDescriptor(), nil
}

// take keeps the files of an answer, and what they import.
func (r *Reflection) take(ctx context.Context, a *reflectpb.ServerReflectionResponse) error {
	got, err := r.keep(a)
	if err != nil {
		return err
	}
	for _, name := range got {
		if err := r.register(ctx, name, nil); err != nil {
			return err
		}
	}
	return nil
}

func (r *Reflection) keep(a *reflectpb.ServerReflectionResponse) ([]string, error) {
	var got []string
	for _, b := range a.GetFileDescriptorResponse().GetFileDescriptorProto() {
		f := new(descriptorpb.FileDescriptorProto)
		if err := proto.Unmarshal(b, f); err != nil {
			return nil, fmt.Errorf("the server's reflection sent a file that is no FileDescriptorProto: %w", err)
		}
		got = append(got, f.GetName())
		if r.protos[f.GetName()] != nil {
			continue
		}
		if r.bytes += len(b); r.bytes > maxFileBytes || len(r.protos) >= maxFiles {
			return nil, fmt.Errorf("the server's reflection sent more than %d files or %d bytes, which is more than is taken", maxFiles, maxFileBytes)
		}
		r.protos[f.GetName()] = f
	}
	return got, nil
}

// register builds the file called name; above are those that wait for it.
func (r *Reflection) register(ctx context.Context, name string, above []string) error {
	if _, err := r.files.FindFileByPath(name); err == nil {
		return nil
	}
	if slices.Contains(above, name) {
		return fmt.Errorf("the server's reflection sent a file that imports itself: %q", name)
	}
	f := r.protos[name]
	if f == nil {
		var err error
		if f, err = r.fetch(ctx, name); err != nil {
			return err
		}
		if f == nil {
			return nil // types of it stay open, as placeholders
		}
	}
	for _, dep := range f.GetDependency() {
		if err := r.register(ctx, dep, append(above, name)); err != nil {
			return err
		}
	}
	// Servers leave out files that only options need: what cannot be resolved
	// is a placeholder, and matters if a message needs it.
	d, err := protodesc.FileOptions{AllowUnresolvable: true}.New(f, r.files)
	if err != nil {
		return fmt.Errorf("the server's reflection sent a file that makes no sense: %q: %w", name, err)
	}
	if err := r.files.RegisterFile(d); err != nil {
		return fmt.Errorf("the server's reflection sent files that contradict each other: %w", err)
	}
	return nil
}

// fetch asks for a file by its name; nil if the server does not have it. The
// well-known ones need not come from the server.
func (r *Reflection) fetch(ctx context.Context, name string) (*descriptorpb.FileDescriptorProto, error) {
	a, err := r.ask(ctx, &reflectpb.ServerReflectionRequest{MessageRequest: &reflectpb.ServerReflectionRequest_FileByFilename{FileByFilename: name}})
	if err != nil {
		return nil, err
	}
	if _, err := r.keep(a); err != nil {
		return nil, err
	}
	if r.protos[name] == nil {
		if d, err := protoregistry.GlobalFiles.FindFileByPath(name); err == nil {
			r.protos[name] = protodesc.ToFileDescriptorProto(d)
		}
	}
	return r.protos[name], nil
}
