// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc"

	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/wire"
)

// method is one method of a registered service, or the handler of those that
// are not registered. Exactly one of unary and stream is set.
type method struct {
	impl   any
	unary  *grpc.MethodDesc
	stream *grpc.StreamDesc
}

// clientStreams reports whether the request may have several messages. Where
// it has one, the handler starts when that is complete.
func (m *method) clientStreams() bool { return m.stream != nil && m.stream.ClientStreams }

func (m *method) serverStreams() bool { return m.stream != nil && m.stream.ServerStreams }

// service is one registered service.
type service struct {
	name     string
	methods  map[string]*method
	order    []string // names as registered, unary ones first
	metadata any
}

func newService(desc *grpc.ServiceDesc, impl any) *service {
	svc := &service{name: desc.ServiceName, methods: map[string]*method{}, metadata: desc.Metadata}
	for i := range desc.Methods {
		d := &desc.Methods[i]
		svc.methods[d.MethodName] = &method{impl: impl, unary: d}
		svc.order = append(svc.order, d.MethodName)
	}
	for i := range desc.Streams {
		d := &desc.Streams[i]
		svc.methods[d.StreamName] = &method{impl: impl, stream: d}
		svc.order = append(svc.order, d.StreamName)
	}
	return svc
}

func (svc *service) info() grpc.ServiceInfo {
	info := grpc.ServiceInfo{Methods: make([]grpc.MethodInfo, 0, len(svc.order)), Metadata: svc.metadata}
	for _, name := range svc.order {
		m := svc.methods[name]
		info.Methods = append(info.Methods, grpc.MethodInfo{Name: name, IsClientStream: m.clientStreams(), IsServerStream: m.serverStreams()})
	}
	return info
}

// sealLocked ends registration and makes the table that calls are looked up
// in, whole paths to methods.
func (s *Server) sealLocked() {
	if s.sealed {
		return
	}
	s.sealed = true
	table := map[string]*method{}
	for name, svc := range s.services {
		s.names = append(s.names, name)
		for name, m := range svc.methods {
			table["/"+svc.name+"/"+name] = m
		}
	}
	slices.Sort(s.names)
	s.methods.Store(&table)
}

// unknownMethod is the fault of a request whose method is not registered. It
// begins with grpc-go's words, which programs know.
func (s *Server) unknownMethod(h *wire.RequestHead) *fault.Fault {
	// Registration has ended, so services and names do not change any more.
	svc := s.services[h.Service]
	args := fault.Args{Side: fault.Local, Processed: fault.No, Verbatim: true}
	if svc != nil {
		near := nearest(h.Method, svc.order)
		args.Evidence = &fault.Evidence{Method: clip(h.Path), Nearest: near}
		args.Message = fmt.Sprintf("unknown method %s for service %s%s", clip(h.Method), svc.name, suggestion(near))
		return fault.HandlerUnknownMethod.New(args)
	}
	near := nearest(h.Service, s.names)
	args.Evidence = &fault.Evidence{Method: clip(h.Path), Nearest: near}
	args.Message = fmt.Sprintf("unknown service %s%s", clip(h.Service), suggestion(near))
	return fault.HandlerUnknownService.New(args)
}

func suggestion(near string) string {
	if near == "" {
		return ""
	}
	return fmt.Sprintf("; the nearest registered name is %s", near)
}

const (
	maxNearName  = 128 // longer names get no suggestion: the work is its square
	maxNearNames = 512
)

// nearest returns the name most like want, "" if none is alike: a few letters
// differ, the case does, or only the package does. The work is bounded, since
// a peer can ask for it as often as it likes.
func nearest(want string, names []string) string {
	if want == "" || len(want) > maxNearName {
		return ""
	}
	best, least := "", 1+max(1, min(len(want)/4, 5))
	for _, name := range names[:min(len(names), maxNearNames)] {
		if len(name) > maxNearName || name == want {
			continue
		}
		if strings.EqualFold(name, want) {
			return name
		}
		gap := max(len(name)-len(want), len(want)-len(name))
		if gap < least {
			if d := distance(want, name); d < least {
				best, least = name, d
			}
		}
	}
	if best == "" {
		last := want[strings.LastIndexByte(want, '.')+1:]
		for _, name := range names[:min(len(names), maxNearNames)] {
			if strings.EqualFold(name[strings.LastIndexByte(name, '.')+1:], last) {
				return name
			}
		}
	}
	return best
}

// distance is the number of bytes to insert, delete or replace to make b of a
// (Levenshtein). Neither is longer than maxNearName.
func distance(a, b string) int {
	var row [maxNearName + 1]int
	for j := range len(b) + 1 {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			next := diagonal
			if a[i] != b[j] {
				next = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}

// clip bounds what a peer can make us repeat.
func clip(s string) string {
	const most = 256
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
