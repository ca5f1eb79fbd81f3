// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc/resolver"

	"github.com/faultline-rpc/faultline/fault"
)

const (
	// maxRoutes bounds the addresses that are dialed.
	maxRoutes = 16
	// laggard is how long the other addresses may take once one has answered.
	laggard = 2 * time.Second
)

// route is one address of the target.
type route struct {
	addr resolver.Address
	nc   net.Conn // dialed and not yet used, or nil
	bad  *Finding // why it cannot be dialed, or nil
	took time.Duration
}

func (r *route) drop() {
	if r.nc != nil {
		r.nc.Close()
		r.nc = nil
	}
}

// connect climbs from the name to HTTP/2. It leaves a connection in x.line.
func (x *exam) connect(ctx context.Context) *Finding {
	if f := x.probeName(ctx); f != nil {
		return f
	}
	if f := x.probeDial(ctx); f != nil {
		return f
	}
	var open []*route
	for _, r := range x.routes {
		if r.bad == nil {
			open = append(open, r)
		}
	}
	var worst *Finding
	for i, r := range open {
		f := x.probeRoute(ctx, r, i == len(open)-1)
		if f == nil {
			x.route = r
			return nil
		}
		// What came furthest says most.
		if worst == nil || f.Layer >= worst.Layer {
			worst = f
		}
	}
	return worst
}

// probeName asks the resolver.
func (x *exam) probeName(ctx context.Context) *Finding {
	end := x.begin("name", "resolving "+x.cfg.Target)
	ctx, cancel := x.connecting(ctx)
	defer cancel()
	addrs, f := x.steps.Resolve(ctx)
	var ev []Fact
	ev = append(ev, fact("endpoint", "%s", x.steps.Endpoint()), fact("scheme", "%s", x.steps.Scheme()), fact("authority", "%s", x.steps.Authority()))
	if p := x.steps.Proxy(); p != "" {
		ev = append(ev, fact("proxy", "%s, from HTTPS_PROXY", p))
	}
	if f != nil {
		return end(failed(found(f), ev...))
	}
	var v4, v6, other int
	var list []string
	for _, a := range addrs {
		list = append(list, a.Addr)
		host, _, err := net.SplitHostPort(a.Addr)
		ip := net.ParseIP(strings.SplitN(host, "%", 2)[0])
		switch {
		case err != nil || ip == nil:
			other++
		case ip.To4() != nil:
			v4++
		default:
			v6++
		}
	}
	ev = append(ev, fact("addresses", "%s", strings.Join(list, ", ")))
	families := ""
	switch {
	case v4 > 0 && v6 > 0:
		families = fmt.Sprintf(" (%d IPv4, %d IPv6)", v4, v6)
	case v4+v6 > 0 && other == 0:
		families = map[bool]string{true: " (IPv4)", false: " (IPv6)"}[v4 > 0]
	}
	p := Probe{Status: OK, Summary: plural(len(list), "address", "addresses") + families, Evidence: ev}
	if len(addrs) > maxRoutes {
		p.Status, p.Summary = Note, fmt.Sprintf("%s, the first %d are tried", p.Summary, maxRoutes)
		addrs = addrs[:maxRoutes]
	}
	for _, a := range addrs {
		x.routes = append(x.routes, &route{addr: a})
	}
	return end(p)
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// probeDial opens a connection to every address, at once.
func (x *exam) probeDial(ctx context.Context) *Finding {
	end := x.begin("dial", "connecting to "+plural(len(x.routes), "address", "addresses"))
	x.dialAll(ctx)
	var ev []Fact
	var best *Finding
	good := 0
	var bad []string
	for _, r := range x.routes {
		said := "connected in " + round(r.took)
		if r.bad != nil {
			said = fmt.Sprintf("%s after %s", r.bad.ID, round(r.took))
			bad = append(bad, fmt.Sprintf("%s: %s", r.addr.Addr, r.bad.ID))
			if best == nil || weight(r.bad) > weight(best) {
				best = r.bad
			}
		} else {
			good++
		}
		ev = append(ev, Fact{r.addr.Addr, said})
	}
	switch {
	case good == 0:
		return end(failed(best, ev...))
	case len(bad) > 0:
		end(Probe{Status: Note, Evidence: ev, Finding: best,
			Summary: fmt.Sprintf("%d of %s connected; %s", good, plural(len(x.routes), "address", "addresses"), strings.Join(bad, ", "))})
		return nil
	}
	return end(Probe{Status: OK, Summary: "connected", Evidence: ev})
}

// weight orders what can go wrong with addresses: of several, the one that says
// most of the target is the verdict. Machines without IPv6 have no route to
// such addresses, which says nothing of it.
func weight(f *Finding) int {
	order := []fault.ID{"dial.failed", "dial.unreachable", "dial.timeout", "dial.refused"}
	for i, id := range order {
		if f.ID == id {
			return i
		}
	}
	return len(order)
}

// dialAll dials every address. Once one has answered, the others have
// [laggard].
func (x *exam) dialAll(ctx context.Context) {
	ctx, cancel := x.connecting(ctx)
	defer cancel()
	type result struct {
		i    int
		nc   net.Conn
		f    *fault.Fault
		took time.Duration
	}
	results := make(chan result, len(x.routes))
	for i, r := range x.routes {
		go func() {
			start := time.Now()
			nc, f := x.steps.Dial(ctx, r.addr)
			results <- result{i, nc, f, time.Since(start)}
		}()
	}
	var hurry <-chan time.Time // nil until one has answered
	rushed := false
	for left := len(x.routes); left > 0; {
		select {
		case got := <-results:
			left--
			r := x.routes[got.i]
			r.nc, r.took = got.nc, got.took
			switch {
			case got.f == nil:
				if hurry == nil {
					t := time.NewTimer(laggard)
					defer t.Stop()
					hurry = t.C
				}
			case rushed:
				r.bad = named("dial.timeout").says(fault.Between, fault.No, "%s did not answer within %s, while another address did", r.addr.Addr, round(r.took))
			default:
				r.bad = found(got.f)
			}
		case <-hurry:
			rushed = true
			cancel()
		}
	}
}

// probeRoute secures a connection to the address, and speaks HTTP/2 over it.
// last says that there is no other address to try.
func (x *exam) probeRoute(ctx context.Context, r *route, last bool) *Finding {
	settle := func(end func(Probe) *Finding, p Probe) *Finding {
		if p.Status == Failed && !last {
			p.Status, p.Summary = Note, r.addr.Addr+": "+p.Summary+"; the next address is tried"
		}
		return end(p)
	}
	l := newLine(x, r)
	x.lines = append(x.lines, l)
	if x.cfg.TLS != nil {
		end := x.begin("tls", "shaking hands with "+r.addr.Addr)
		if f := l.secure(ctx); f != nil {
			ev := l.tlsEvidence(f)
			return settle(end, failed(x.secondOpinion(ctx, r, l.finding(f)), ev...))
		}
		p := Probe{Status: OK, Summary: l.tlsSummary(), Evidence: l.tlsEvidence(nil)}
		if n := x.sight.notice(x.steps.ServerName(r.addr)); n != "" {
			p.Status, p.Summary = Note, p.Summary+"; "+n
		}
		end(p)
	} else if f := l.secure(ctx); f != nil { // the dial, if the first connection was used up
		return found(f)
	}
	end := x.begin("http2", "waiting for SETTINGS from "+r.addr.Addr)
	n := l.speak(ctx)
	if n != nil {
		p := failed(x.secondOpinion(ctx, r, n))
		if first := l.sample; first != "" {
			p.Evidence = append(p.Evidence, fact("first bytes", "%q", first))
		}
		if l.spoke() {
			p.Evidence = append(p.Evidence, l.tap.evidence()...)
		}
		return settle(end, p)
	}
	x.line = l
	summary := "SETTINGS in " + round(l.settled)
	if l.rtt > 0 {
		summary += ", PING answered in " + round(l.rtt)
	}
	if l.shy {
		summary += ", once a request had begun (cmux?)"
	}
	p := Probe{Status: OK, Summary: summary, Evidence: l.tap.evidence()}
	if g := l.goAway.Load(); g != nil {
		p.Status, p.Summary = Note, cmp.Or(p.Summary, "")+"; "+g.Error()
	}
	return end(p)
}
