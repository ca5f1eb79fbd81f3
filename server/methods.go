// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"slices"

	"google.golang.org/grpc"

	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/internal/near"
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
		like := nearest(h.Method, svc.order)
		args.Evidence = &fault.Evidence{Method: clip(h.Path), Nearest: like}
		args.Message = fmt.Sprintf("unknown method %s for service %s%s", clip(h.Method), svc.name, suggestion(like))
		return fault.HandlerUnknownMethod.New(args)
	}
	like := nearest(h.Service, s.names)
	args.Evidence = &fault.Evidence{Method: clip(h.Path), Nearest: like}
	args.Message = fmt.Sprintf("unknown service %s%s", clip(h.Service), suggestion(like))
	return fault.HandlerUnknownService.New(args)
}

func suggestion(like string) string {
	if like == "" {
		return ""
	}
	return fmt.Sprintf("; the nearest registered name is %s", like)
}

// maxNearNames bounds the search, which a peer can ask for as often as it likes.
const maxNearNames = 512

func nearest(name string, names []string) string {
	return near.Name(name, names[:min(len(names), maxNearNames)])
}

// clip bounds what a peer can make us repeat.
func clip(s string) string {
	const most = 256
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
