// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/faultline-rpc/faultline/codes"
	"github.com/faultline-rpc/faultline/fault"
)

// healthPath is the one question that every gRPC server has an answer to, if
// only that it does not offer the service.
const healthPath = "/grpc.health.v1.Health/Check"

// probeGRPC asks for the server's health. Whatever status comes back proves
// that gRPC works in both directions.
func (x *exam) probeGRPC(ctx context.Context) {
	end := x.begin("grpc", "calling "+healthPath[1:])
	x.answer = x.ask(ctx, question{path: healthPath, messages: [][]byte{x.healthRequest()}})
	a := x.answer
	if n := x.clientCert(a); n != nil {
		x.decide(end, n, a.evidence()...)
		return
	}
	if !a.status() && x.unrouted(a) && x.routed(ctx) {
		end(Probe{Status: Note, Summary: "the health service is not routed (HTTP 404), but reflection is answered as gRPC", Evidence: a.evidence(), Finding: a.finding})
		return
	}
	if !a.status() {
		x.decide(end, a.finding, a.evidence()...)
		return
	}
	how := "headers, message and trailers"
	switch {
	case a.head == nil:
		how = "a trailers-only answer"
	case a.count == 0:
		how = "headers and trailers"
	}
	end(Probe{Status: OK, Summary: how + " arrived intact in " + round(a.took), Evidence: a.evidence()})
}

// healthRequest is a grpc.health.v1.HealthCheckRequest.
func (x *exam) healthRequest() []byte {
	if x.cfg.Service == "" {
		return nil
	}
	return protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), x.cfg.Service)
}

// unrouted reports the answer of servers that keep their services in an HTTP
// router, to one that they do not have.
func (x *exam) unrouted(a *answer) bool { return a.f != nil && a.f.Evidence().HTTPStatus == 404 }

// routed reports whether reflection is answered as gRPC.
func (x *exam) routed(ctx context.Context) bool {
	for _, path := range reflectionPaths {
		if x.ask(ctx, question{path: path, messages: [][]byte{reflectionRequest(askList, "*")}, many: true}).status() {
			return true
		}
	}
	return false
}

// clientCert finds servers that end the handshake in peace and answer requests
// on a connection without the client certificate that they want, or with a bad
// one, with HTTP 400, as nginx does.
func (x *exam) clientCert(a *answer) *Finding {
	if x.sight == nil || a.f == nil || a.f.Evidence().HTTPStatus != 400 {
		return nil
	}
	switch asked, gave := x.sight.certificate(); {
	case asked && !gave:
		return named("tls.client-cert-required").says(fault.Remote, fault.No,
			"the server asked for a client certificate in the handshake, got none, and answers HTTP 400, with which calls fail as INTERNAL (wire.http-status)")
	case asked:
		return named("tls.client-cert-rejected").says(fault.Remote, fault.No,
			"the server asked for a client certificate in the handshake, and answers HTTP 400 to the one it got, with which calls fail as INTERNAL (wire.http-status)")
	}
	return nil
}

// decide ends a rung above the connection that is not well. If a method was
// named, it is a note: gateways route some services only, and what the method
// does is what counts.
func (x *exam) decide(end func(Probe) *Finding, n *Finding, ev ...Fact) {
	if x.cfg.Method == "" {
		x.blame(end(failed(n, ev...)))
		return
	}
	end(Probe{Status: Note, Summary: n.Message + "; the method decides", Evidence: ev, Finding: n})
}

// probeServices judges the answer about health, and asks for the services.
func (x *exam) probeServices(ctx context.Context) {
	switch n := x.answer.finding; {
	case x.answer.status():
		x.probeHealth()
	case n.Layer == fault.LayerHTTP2 || n.Layer == fault.LayerCall: // another stream would fare no better
		return
	}
	x.probeReflection(ctx)
}

// healthStates are those of grpc.health.v1.HealthCheckResponse.
var healthStates = []string{"UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"}

// probeHealth judges what the server said of itself.
func (x *exam) probeHealth() {
	end := x.begin("health", "reading the answer")
	a := x.answer
	switch {
	case a.finding == nil:
		x.judgeHealth(end)
	case a.absent():
		end(Probe{Status: OK, Summary: "the server offers no health service; it counts as healthy (gRFC A17)"})
	case a.finding.Code == codes.NotFound:
		end(Probe{Status: Note, Summary: fmt.Sprintf("the health service does not know %q", x.cfg.Service)})
	default:
		x.decide(end, a.finding)
	}
}

func (x *exam) judgeHealth(end func(Probe) *Finding) {
	if _, err := parseHealth(x.answer.messages[0]); err != nil {
		n := named("codec.response-parse").says(fault.Remote, fault.Yes,
			"the answer of %d bytes is no grpc.health.v1.HealthCheckResponse: %v", len(x.answer.messages[0]), err)
		x.decide(end, n)
		return
	}
	name := healthName(x.answer)
	ev := fact("service", "%q", x.cfg.Service)
	switch name {
	case "SERVING":
		end(Probe{Status: OK, Summary: name, Evidence: []Fact{ev}})
	case "NOT_SERVING":
		x.blame(end(failed(found(x.steps.Unhealthy(x.answer.address, x.cfg.Service, name)), ev)))
	default:
		end(Probe{Status: Note, Summary: name + ": clients that check health do not use this server", Evidence: []Fact{ev}})
	}
}

// healthName names the state in an answer of OK, or is "" if it has none.
func healthName(a *answer) string {
	if a.finding != nil || len(a.messages) == 0 {
		return ""
	}
	state, err := parseHealth(a.messages[0])
	switch {
	case err != nil:
		return ""
	case state < uint64(len(healthStates)):
		return healthStates[state]
	}
	return fmt.Sprint(state)
}

// brief is what an address says of its health, without the time it took.
func (a *answer) brief() string {
	if a.finding != nil {
		return string(a.finding.ID) + " " + codes.Name(a.finding.Code)
	}
	return healthName(a)
}

// parseHealth reads a HealthCheckResponse: its status, field 1.
func parseHealth(p []byte) (state uint64, err error) {
	err = eachField(p, func(num protowire.Number, v uint64, _ []byte) {
		if num == 1 {
			state = v
		}
	})
	return state, err
}

// eachField calls f with each field of a message: v for numbers, b for bytes.
func eachField(p []byte, f func(num protowire.Number, v uint64, b []byte)) error {
	for len(p) > 0 {
		num, typ, n := protowire.ConsumeTag(p)
		if n < 0 {
			return protowire.ParseError(n)
		}
		p = p[n:]
		switch typ {
		case protowire.VarintType:
			v, n := protowire.ConsumeVarint(p)
			if n < 0 {
				return protowire.ParseError(n)
			}
			f(num, v, nil)
			p = p[n:]
		case protowire.BytesType:
			b, n := protowire.ConsumeBytes(p)
			if n < 0 {
				return protowire.ParseError(n)
			}
			f(num, 0, b)
			p = p[n:]
		default:
			n := protowire.ConsumeFieldValue(num, typ, p)
			if n < 0 {
				return protowire.ParseError(n)
			}
			p = p[n:]
		}
	}
	return nil
}

// reflectionPaths are tried in this order; their messages are the same.
var reflectionPaths = []string{
	"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
	"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
}

// The fields of ServerReflectionRequest and ServerReflectionResponse
// (https://github.com/grpc/grpc/blob/master/doc/server-reflection.md).
const (
	askFile   = 3
	askSymbol = 4
	askList   = 7
	gotFiles  = 4
	gotList   = 6
	gotError  = 7
)

func reflectionRequest(field protowire.Number, value string) []byte {
	return protowire.AppendString(protowire.AppendTag(nil, field, protowire.BytesType), value)
}

// maxListed bounds the services shown.
const maxListed = 12

// probeReflection asks for the services. No answer to that is an illness,
// unless it shows what the health check could not: that gRPC's own parts do not
// arrive.
func (x *exam) probeReflection(ctx context.Context) {
	end := x.begin("reflection", "listing the services")
	var a *answer
	path := ""
	for _, path = range reflectionPaths {
		if a = x.ask(ctx, question{path: path, messages: [][]byte{reflectionRequest(askList, "*")}, many: true}); !a.absent() {
			break
		}
	}
	switch {
	case a.absent():
		end(Probe{Status: OK, Summary: "the server does not offer reflection"})
		return
	case a.finding != nil && !x.brokenPath(a):
		end(Probe{Status: Note, Summary: "no answer: " + a.describe(), Evidence: a.evidence(), Finding: a.finding})
		return
	case a.finding != nil:
		x.decide(end, a.finding, a.evidence()...)
		return
	}
	list, err := parseList(a.messages)
	if err != nil {
		end(Probe{Status: Note, Summary: fmt.Sprintf("the answer makes no sense: %v", err)})
		return
	}
	x.schema = &schema{path: path, services: list}
	shown := list
	if len(shown) > maxListed {
		shown = append(slices.Clone(shown[:maxListed]), fmt.Sprintf("and %d more", len(list)-maxListed))
	}
	version, _, _ := strings.Cut(strings.TrimPrefix(path, "/grpc.reflection."), ".")
	end(Probe{Status: OK, Summary: plural(len(list), "service", "services") + " in " + round(a.took),
		Evidence: []Fact{fact("services", "%s", orNone(strings.Join(shown, ", "))), fact("version", "%s", version)}})
}

// brokenPath reports a stream of several messages that did not arrive as gRPC:
// neither a status, nor a gateway that does not route this service.
func (x *exam) brokenPath(a *answer) bool {
	if a.status() {
		return false
	}
	switch a.finding.Layer {
	case fault.LayerWire:
		return a.finding.ID != "wire.http-status" && a.finding.ID != "wire.content-type"
	case fault.LayerCodec:
		return true
	}
	return false
}

// parseList reads the services' names from the answers.
func parseList(messages [][]byte) ([]string, error) {
	var list []string
	var refusal error
	for _, m := range messages {
		err := eachField(m, func(num protowire.Number, _ uint64, b []byte) {
			switch num {
			case gotList:
				_ = eachField(b, func(num protowire.Number, _ uint64, service []byte) {
					if num != 1 {
						return
					}
					_ = eachField(service, func(num protowire.Number, _ uint64, name []byte) {
						if num == 1 && len(list) < 10_000 {
							list = append(list, string(name))
						}
					})
				})
			case gotError:
				refusal = reflectionError(b)
			}
		})
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(list)
	return list, refusal
}

// reflectionError reads an ErrorResponse.
func reflectionError(p []byte) error {
	var code uint64
	var text string
	_ = eachField(p, func(num protowire.Number, v uint64, b []byte) {
		switch num {
		case 1:
			code = v
		case 2:
			text = string(b)
		}
	})
	return fmt.Errorf("%s: %s", codes.Name(codes.Code(uint32(code))), text)
}
