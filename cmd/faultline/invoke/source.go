// SPDX-License-Identifier: Apache-2.0

package invoke

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bufbuild/protocompile"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	alphapb "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/faultline-rpc/faultline/internal/near"
)

// Source finds descriptors. Its methods are for one goroutine at a time.
type Source interface {
	// Services lists the full names of the services, sorted.
	Services(ctx context.Context) ([]string, error)
	// Find returns the descriptor of a service, method, message, enum, field or
	// extension. The error is a *NotFound if there is none of that name.
	Find(ctx context.Context, name protoreflect.FullName) (protoreflect.Descriptor, error)
	// Extension returns the extension of a message with that field number.
	Extension(ctx context.Context, message protoreflect.FullName, field protoreflect.FieldNumber) (protoreflect.ExtensionDescriptor, error)
	// String says where descriptors come from, for messages to people.
	String() string
}

// NotFound is the error for a name that a source does not have.
type NotFound struct {
	Name   string
	Source string
	// Nearest is a name like it that the source has, or "".
	Nearest string
	// Parent is true if the name is a method's and its service is missing.
	Parent bool
}

// Error names what was looked for, where, and what is there instead.
func (e *NotFound) Error() string {
	text := fmt.Sprintf("%s does not have %q", e.Source, e.Name)
	if e.Nearest != "" {
		text += fmt.Sprintf("; did you mean %q?", e.Nearest)
	}
	return text
}

// Files is a [Source] of descriptors that are at hand.
type Files struct {
	from     string
	services []string
	all      *protoregistry.Files
}

// Known returns a source of the service if it is one of gRPC's own whose files
// this program has, or nil.
func Known(service protoreflect.FullName) *Files {
	f, ok := map[protoreflect.FullName]protoreflect.FileDescriptor{
		"grpc.health.v1.Health":                    healthpb.File_grpc_health_v1_health_proto,
		"grpc.reflection.v1.ServerReflection":      reflectpb.File_grpc_reflection_v1_reflection_proto,
		"grpc.reflection.v1alpha.ServerReflection": alphapb.File_grpc_reflection_v1alpha_reflection_proto,
	}[service]
	if !ok {
		return nil
	}
	src := &Files{from: f.Path(), services: []string{string(service)}, all: new(protoregistry.Files)}
	if src.all.RegisterFile(f) != nil {
		return nil
	}
	return src
}

// CompileProto makes a source of .proto files. Each is looked for in the
// import paths, or, if there are none, where its name says.
func CompileProto(ctx context.Context, importPaths, files []string) (*Files, error) {
	names := slices.Clone(files)
	if len(importPaths) > 0 {
		for i := range names {
			names[i] = underImportPath(importPaths, names[i])
		}
	}
	for i, name := range names {
		if err := readable(importPaths, name); err != nil {
			return nil, fmt.Errorf("--proto %s cannot be read: %w; want a .proto file%s", files[i], err, lookedIn(importPaths))
		}
	}
	compiler := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: importPaths}),
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	linked, err := compiler.Compile(ctx, names...)
	if err != nil {
		return nil, fmt.Errorf("--proto %s does not compile: %w%s", strings.Join(files, ", "), err, importHint(err, importPaths))
	}
	src := &Files{from: strings.Join(files, ", "), all: new(protoregistry.Files)}
	for _, f := range linked {
		if err := src.add(f); err != nil {
			return nil, fmt.Errorf("--proto %s: %w", f.Path(), err)
		}
		src.list(f)
	}
	slices.Sort(src.services)
	return src, nil
}

// underImportPath turns a path as the shell completes it into the name that
// imports would use.
func underImportPath(importPaths []string, name string) string {
	for _, dir := range importPaths {
		if rel, err := filepath.Rel(dir, name); err == nil && filepath.IsLocal(rel) {
			if _, err := os.Stat(name); err == nil {
				return filepath.ToSlash(rel)
			}
		}
	}
	return filepath.ToSlash(name)
}

func readable(importPaths []string, name string) error {
	if len(importPaths) == 0 {
		importPaths = []string{""}
	}
	var first error
	for _, dir := range importPaths {
		_, err := os.Stat(filepath.Join(dir, name))
		if err == nil {
			return nil
		}
		first = cmpErr(first, plain(err))
	}
	return first
}

func cmpErr(first, err error) error {
	if first != nil {
		return first
	}
	return err
}

// plain takes the path off an error that is shown next to it.
func plain(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

func lookedIn(importPaths []string) string {
	if len(importPaths) == 0 {
		return ""
	}
	return " below " + strings.Join(importPaths, " or ")
}

// importHint names the flag that is missing as a rule.
func importHint(err error, importPaths []string) string {
	if len(importPaths) == 0 && (errors.Is(err, fs.ErrNotExist) || strings.Contains(err.Error(), "could not resolve")) {
		return "; --import-path names the folder that imports are relative to"
	}
	return ""
}

// maxProtoset bounds a descriptor set, in bytes.
const maxProtoset = 256 << 20

// ReadProtosets makes a source of files that hold a
// google.protobuf.FileDescriptorSet, as protoc --descriptor_set_out
// --include_imports and buf build write them.
func ReadProtosets(files []string) (*Files, error) {
	src := &Files{from: strings.Join(files, ", "), all: new(protoregistry.Files)}
	for _, name := range files {
		b, err := readAtMost(name, maxProtoset)
		if err != nil {
			return nil, fmt.Errorf("--protoset %s cannot be read: %w; want a file of protoc --descriptor_set_out", name, plain(err))
		}
		set := new(descriptorpb.FileDescriptorSet)
		if err := proto.Unmarshal(b, set); err != nil || len(set.GetFile()) == 0 {
			return nil, fmt.Errorf("--protoset %s holds no descriptor set, want a file of protoc --descriptor_set_out --include_imports", name)
		}
		made, err := protodesc.NewFiles(set)
		if err != nil {
			return nil, fmt.Errorf("--protoset %s is not complete: %w; make it with protoc --include_imports", name, err)
		}
		made.RangeFiles(func(f protoreflect.FileDescriptor) bool {
			if err = src.add(f); err == nil {
				src.list(f)
			}
			return err == nil
		})
		if err != nil {
			return nil, fmt.Errorf("--protoset %s: %w", name, err)
		}
	}
	slices.Sort(src.services)
	src.services = slices.Compact(src.services)
	return src, nil
}

func readAtMost(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("it is larger than %d bytes", limit)
	}
	return b, err
}

// add registers f and what it imports.
func (s *Files) add(f protoreflect.FileDescriptor) error {
	if _, err := s.all.FindFileByPath(f.Path()); err == nil {
		return nil
	}
	imports := f.Imports()
	for i := range imports.Len() {
		if err := s.add(imports.Get(i).FileDescriptor); err != nil {
			return err
		}
	}
	return s.all.RegisterFile(f)
}

func (s *Files) list(f protoreflect.FileDescriptor) {
	for i := range f.Services().Len() {
		s.services = append(s.services, string(f.Services().Get(i).FullName()))
	}
}

// Services implements Source.
func (s *Files) Services(context.Context) ([]string, error) { return s.services, nil }

// Find implements Source.
func (s *Files) Find(_ context.Context, name protoreflect.FullName) (protoreflect.Descriptor, error) {
	d, err := s.all.FindDescriptorByName(name)
	if err == nil {
		return d, nil
	}
	return nil, &NotFound{Name: string(name), Source: s.String(), Nearest: near.Name(string(name), names(s.all))}
}

// Extension implements Source.
func (s *Files) Extension(_ context.Context, message protoreflect.FullName, field protoreflect.FieldNumber) (protoreflect.ExtensionDescriptor, error) {
	x, err := dynamicpb.NewTypes(s.all).FindExtensionByNumber(message, field)
	if err != nil {
		return nil, err
	}
	return x.TypeDescriptor(), nil
}

// String implements Source.
func (s *Files) String() string { return s.from }

// names collects names that a person may have meant: services, their
// methods and messages.
func names(files *protoregistry.Files) []string {
	var all []string
	files.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			s := f.Services().Get(i)
			all = append(all, string(s.FullName()))
			for j := range s.Methods().Len() {
				all = append(all, string(s.Methods().Get(j).FullName()))
			}
		}
		for i := range f.Messages().Len() {
			all = append(all, string(f.Messages().Get(i).FullName()))
		}
		return true
	})
	return all
}
