// SPDX-License-Identifier: Apache-2.0

package invoke

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

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

	"github.com/faultline-rpc/faultline/internal/near"
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
// (https://github.com/grpc/grpc/blob/master/doc/server-reflection.md). Each
// question has a stream of its own, which ends with it: whatever stands in for
// a server answers that as it answers other calls.
type Reflection struct {
	conn   grpc.ClientConnInterface
	limit  int    // for one answer, in bytes
	method string // the version that answered; "" until asked

	protos map[string]*descriptorpb.FileDescriptorProto
	bytes  int
	files  *protoregistry.Files
	listed []string
}

// NewReflection makes a source that asks the server at the other end of conn,
// and accepts answers of limit bytes.
func NewReflection(conn grpc.ClientConnInterface, limit int) *Reflection {
	return &Reflection{conn: conn, limit: limit, protos: map[string]*descriptorpb.FileDescriptorProto{}, files: new(protoregistry.Files)}
}

// String implements Source.
func (r *Reflection) String() string { return "the server's reflection" }

// ErrSilent is the error of a reflection service that ends its stream without an
// answer.
var ErrSilent = errors.New("the server's reflection service ended without an answer")

// ask sends one question. The first picks the version.
func (r *Reflection) ask(ctx context.Context, q *reflectpb.ServerReflectionRequest) (*reflectpb.ServerReflectionResponse, error) {
	if r.method != "" {
		return r.exchange(ctx, r.method, q)
	}
	var first error
	for _, method := range reflectionMethods {
		a, err := r.exchange(ctx, method, q)
		if err == nil {
			r.method = method
			return a, nil
		}
		if status.Code(err) != codes.Unimplemented {
			return nil, err
		}
		first = cmpErr(first, err)
	}
	return nil, first
}

// tidyTime is what a server has to end a stream whose answer has come.
const tidyTime = time.Second

func (r *Reflection) exchange(ctx context.Context, method string, q *reflectpb.ServerReflectionRequest) (*reflectpb.ServerReflectionResponse, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := r.conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method, grpc.MaxCallRecvMsgSize(r.limit))
	if err != nil {
		return nil, err
	}
	if err := s.SendMsg(q); err != nil && !errors.Is(err, io.EOF) { // after EOF RecvMsg says why
		return nil, err
	}
	_ = s.CloseSend() // its error is the stream's
	a := new(reflectpb.ServerReflectionResponse)
	if err = s.RecvMsg(a); err == nil {
		patience := time.AfterFunc(tidyTime, cancel)
		err = s.RecvMsg(new(reflectpb.ServerReflectionResponse))
		switch inTime := patience.Stop(); {
		case a.GetMessageResponse() != nil: // the answer is there, however the stream ends
			return a, nil
		case err == nil || !inTime:
			return nil, ErrSilent
		}
	}
	if errors.Is(err, io.EOF) {
		return nil, ErrSilent
	}
	return nil, err
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

// maxServices bounds how many services are looked at for a name like one that
// is not there.
const maxServices = 20

// notFound looks for a name like it.
func (r *Reflection) notFound(ctx context.Context, name protoreflect.FullName) error {
	services, err := r.Services(ctx)
	if err == nil && near.Name(string(name), services) == "" {
		for _, s := range services[:min(len(services), maxServices)] {
			r.load(ctx, protoreflect.FullName(s))
		}
	}
	all := append(names(r.files), services...)
	return &NotFound{Name: string(name), Source: r.String(), Nearest: near.Name(string(name), all)}
}

// load gets the files of a service, if it can.
func (r *Reflection) load(ctx context.Context, name protoreflect.FullName) {
	a, err := r.ask(ctx, &reflectpb.ServerReflectionRequest{MessageRequest: &reflectpb.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: string(name)}})
	if err == nil {
		_ = r.take(ctx, a) // what it got is there
	}
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
