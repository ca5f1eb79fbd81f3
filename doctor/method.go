// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/internal/near"
)

// schema is what reflection told of the server.
type schema struct {
	path     string   // of the reflection service
	services []string // sorted
	files    *protoregistry.Files
}

// splitMethod splits "package.Service/Method", with or without a slash before.
func splitMethod(name string) (service, method string, err error) {
	service, method, ok := strings.Cut(strings.TrimPrefix(name, "/"), "/")
	if !ok || service == "" || method == "" || strings.ContainsAny(name, " \t\r\n") || strings.Contains(method, "/") {
		return "", "", fmt.Errorf("%q is no method, want package.Service/Method", name)
	}
	return service, method, nil
}

// probeMethod makes the call that was asked for.
func (x *exam) probeMethod(ctx context.Context) {
	if x.cfg.Method == "" {
		return
	}
	end := x.begin("method", "calling "+strings.TrimPrefix(x.cfg.Method, "/"))
	service, name, err := splitMethod(x.cfg.Method)
	if err != nil {
		x.blame(end(failed(named("call.misuse").says(fault.Local, fault.No, "%v", err))))
		return
	}
	desc, missing := x.find(ctx, service, name)
	q := question{path: "/" + service + "/" + name, many: desc == nil || desc.IsStreamingServer(), encoding: x.cfg.Compress, limit: x.cfg.MaxMessage}
	msg, err := x.request(desc)
	if err != nil {
		x.blame(end(failed(named("codec.marshal").says(fault.Local, fault.No, "%v", err))))
		return
	}
	q.messages = [][]byte{msg}
	a := x.ask(ctx, q)
	n := a.finding
	ev := append(x.methodEvidence(desc, q, a), a.evidence()...)
	switch {
	case n == nil && desc != nil:
		n = x.checkAnswers(desc, a)
	case a.absent():
		n = x.whatIsMissing(ctx, service, name, a, missing)
	}
	if n != nil {
		x.blame(end(failed(n, ev...)))
		return
	}
	end(Probe{Status: OK, Summary: "OK in " + round(a.took) + ", of the " + x.cfg.Timeout.String() + " it may take", Evidence: ev})
}

// methodEvidence describes the call.
func (x *exam) methodEvidence(desc protoreflect.MethodDescriptor, q question, a *answer) []Fact {
	ev := []Fact{fact("method", "%s", q.path)}
	if desc != nil {
		kind := map[[2]bool]string{{false, false}: "unary", {true, false}: "client streaming", {false, true}: "server streaming", {true, true}: "bidirectional"}
		ev = append(ev, fact("kind", "%s: %s to %s", kind[[2]bool{desc.IsStreamingClient(), desc.IsStreamingServer()}], desc.Input().FullName(), desc.Output().FullName()))
	}
	ev = append(ev, fact("request", "%s", plural(len(q.messages[0]), "byte", "bytes")))
	if q.encoding != "" {
		ev = append(ev, fact("request compression", "%s", q.encoding))
	}
	size := 0
	for _, m := range a.messages {
		size += len(m)
	}
	if a.count > 0 {
		ev = append(ev, fact("answer", "%s, %s, limit %d for each", plural(a.count, "message", "messages"), plural(size, "byte", "bytes"), x.cfg.MaxMessage))
	}
	return ev
}

// checkAnswers finds messages that are not what the method returns.
func (x *exam) checkAnswers(desc protoreflect.MethodDescriptor, a *answer) *Finding {
	for _, p := range a.messages {
		if err := proto.Unmarshal(p, dynamicpb.NewMessage(desc.Output())); err != nil {
			return named("codec.response-parse").says(fault.Remote, fault.Yes, "a message of %d bytes is no %s: %v", len(p), desc.Output().FullName(), err)
		}
	}
	return nil
}

// request makes the request message from JSON.
func (x *exam) request(desc protoreflect.MethodDescriptor) ([]byte, error) {
	if data := strings.TrimSpace(string(x.cfg.Data)); data == "" || data == "{}" {
		return nil, nil
	}
	if desc == nil {
		return nil, errors.New("the request's JSON cannot be turned into a message: the server's reflection does not tell the method's type; want no data")
	}
	m := dynamicpb.NewMessage(desc.Input())
	if err := (protojson.UnmarshalOptions{Resolver: dynamicpb.NewTypes(x.schema.files)}).Unmarshal(x.cfg.Data, m); err != nil {
		return nil, fmt.Errorf("the request's JSON is no %s: %w", desc.Input().FullName(), err)
	}
	return proto.Marshal(m)
}

// missing says what of a method's name reflection does not list.
type missing struct {
	service, method bool
	nearest         string
}

// find looks the method up by reflection: nil where that does not tell.
func (x *exam) find(ctx context.Context, service, name string) (protoreflect.MethodDescriptor, missing) {
	s := x.schema
	if s == nil {
		return nil, missing{}
	}
	if !slices.Contains(s.services, service) {
		return nil, missing{service: true, nearest: near.Name(service, s.services)}
	}
	d, err := x.describe(ctx, service)
	if err != nil {
		return nil, missing{}
	}
	if m := d.Methods().ByName(protoreflect.Name(name)); m != nil {
		return m, missing{}
	}
	var all []string
	for i := range d.Methods().Len() {
		all = append(all, string(d.Methods().Get(i).Name()))
	}
	like := near.Name(name, all)
	if like != "" {
		like = service + "/" + like
	}
	return nil, missing{method: true, nearest: like}
}

// maxFiles bounds the descriptors that a server may make the doctor keep.
const maxFiles = 1000

// describe fetches the service's descriptor and the files it needs.
func (x *exam) describe(ctx context.Context, service string) (protoreflect.ServiceDescriptor, error) {
	set := map[string]*descriptorpb.FileDescriptorProto{}
	wanted := [][]byte{reflectionRequest(askSymbol, service)}
	asked := map[string]bool{}
	for len(wanted) > 0 && len(set) < maxFiles {
		a := x.ask(ctx, question{path: x.schema.path, messages: wanted[:1], many: true})
		wanted = wanted[1:]
		if a.finding != nil {
			return nil, errors.New(a.describe())
		}
		files, err := parseFiles(a.messages)
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			set[f.GetName()] = f
		}
		for _, f := range files {
			for _, dep := range f.GetDependency() {
				if set[dep] == nil && !asked[dep] {
					asked[dep] = true
					wanted = append(wanted, reflectionRequest(askFile, dep))
				}
			}
		}
	}
	all := &descriptorpb.FileDescriptorSet{}
	for _, f := range set {
		all.File = append(all.File, f)
	}
	reg, err := protodesc.FileOptions{AllowUnresolvable: true}.NewFiles(all)
	if err != nil {
		return nil, err
	}
	d, err := reg.FindDescriptorByName(protoreflect.FullName(service))
	if err != nil {
		return nil, err
	}
	sd, ok := d.(protoreflect.ServiceDescriptor)
	if !ok {
		return nil, fmt.Errorf("%s is no service", service)
	}
	x.schema.files = reg
	return sd, nil
}

// parseFiles reads the file descriptors from reflection's answers.
func parseFiles(messages [][]byte) ([]*descriptorpb.FileDescriptorProto, error) {
	var out []*descriptorpb.FileDescriptorProto
	var bad error
	for _, m := range messages {
		err := eachField(m, func(num protowire.Number, _ uint64, b []byte) {
			switch num {
			case gotFiles:
				_ = eachField(b, func(num protowire.Number, _ uint64, file []byte) {
					f := new(descriptorpb.FileDescriptorProto)
					if err := proto.Unmarshal(file, f); num == 1 && err == nil {
						out = append(out, f)
					} else if err != nil {
						bad = err
					}
				})
			case gotError:
				bad = reflectionError(b)
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return out, bad
}

// Names that nobody has.
const stranger, other = "faultline.doctor.NoSuchService", "NoSuchMethod"

// whatIsMissing says what UNIMPLEMENTED means: reflection tells, or else the
// comparison with answers to names that surely nobody has. What remains is the
// handler's own word.
func (x *exam) whatIsMissing(ctx context.Context, service, name string, a *answer, m missing) *Finding {
	hint := ""
	if m.nearest != "" {
		hint = fmt.Sprintf("; did you mean %s?", m.nearest)
	}
	if x.cfg.Compress != "" {
		if plain := x.ask(ctx, question{path: "/" + service + "/" + name, messages: [][]byte{nil}}); !plain.absent() {
			return named("codec.compressor-unsupported").says(fault.Remote, fault.No,
				"the server does not take requests compressed with %q: %q", x.cfg.Compress, a.words())
		}
	}
	// Reflection and the answer agree: no handler can have run.
	switch {
	case m.service:
		return named("handler.unknown-service").says(fault.Remote, fault.No, "the server has no service %s%s: %q", service, hint, a.words()).suggests(m.nearest)
	case m.method:
		return named("handler.unknown-method").says(fault.Remote, fault.No, "service %s has no method %s%s: %q", service, name, hint, a.words()).suggests(m.nearest)
	case x.schema != nil:
		return a.finding
	}
	if b := x.ask(ctx, question{path: "/" + stranger + "/" + other, messages: [][]byte{nil}}); b.absent() &&
		sameWords(a, b, service, name, stranger, other) {
		return named("handler.unknown-service").says(fault.Remote, a.finding.Processed,
			"the server answers for %s as for a service that does not exist: %q", service, a.words())
	}
	if b := x.ask(ctx, question{path: "/" + service + "/" + other, messages: [][]byte{nil}}); b.absent() &&
		sameWords(a, b, service, name, service, other) {
		return named("handler.unknown-method").says(fault.Remote, a.finding.Processed,
			"the server answers for %s as for a method that %s does not have: %q", name, service, a.words())
	}
	return a.finding
}

// sameWords reports whether two answers differ in the names alone.
func sameWords(a, b *answer, service, name, service2, name2 string) bool {
	canon := func(text, service, name string) string {
		return strings.ReplaceAll(strings.ReplaceAll(text, service, "\x00"), name, "\x01")
	}
	return canon(a.words(), service, name) == canon(b.words(), service2, name2)
}
