// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"fmt"
	"strings"
)

// probeOthers asks the target's other addresses for their health: a client that
// balances over them meets the worst one too. What is wrong with some is a
// note, for the target as a whole answers.
func (x *exam) probeOthers(ctx context.Context) {
	var others []*route
	for _, r := range x.routes {
		if r != x.route && r.bad == nil {
			others = append(others, r)
		}
	}
	if len(others) == 0 {
		return
	}
	end := x.begin("addresses", "asking "+plural(len(others), "other address", "other addresses"))
	ctx, cancel := x.within(ctx)
	defer cancel()
	route, line := x.route, x.line
	defer func() { x.route, x.line = route, line }()
	ev := []Fact{{route.addr.Addr, x.answer.brief()}}
	var bad []string
	var worst *Finding
	for _, r := range others {
		n, said := x.examineOther(ctx, r)
		ev = append(ev, Fact{r.addr.Addr, said})
		if n != nil {
			bad = append(bad, fmt.Sprintf("%s: %s", r.addr.Addr, n.ID))
			if worst == nil || n.Layer < worst.Layer {
				worst = n
			}
		}
	}
	if worst == nil {
		end(Probe{Status: OK, Summary: "all " + plural(len(others)+1, "address", "addresses") + " answer alike", Evidence: ev})
		return
	}
	end(Probe{Status: Note, Summary: fmt.Sprintf("%d of %d addresses differ: %s", len(bad), len(others)+1, strings.Join(bad, ", ")), Evidence: ev, Finding: worst})
}

// examineOther climbs to the health check at one address.
func (x *exam) examineOther(ctx context.Context, r *route) (*Finding, string) {
	l := newLine(x, r)
	x.lines = append(x.lines, l)
	if f := l.secure(ctx); f != nil {
		n := l.finding(f)
		return n, n.Message
	}
	if n := l.speak(ctx); n != nil {
		return n, n.Message
	}
	x.route, x.line = r, l
	a := x.ask(ctx, question{path: healthPath, messages: [][]byte{x.healthRequest()}})
	said := a.brief()
	if said == x.answer.brief() {
		return nil, said + " in " + round(a.took)
	}
	switch {
	case a.finding != nil:
		return a.finding, said
	case healthName(a) == "NOT_SERVING":
		return found(x.steps.Unhealthy(r.addr.Addr, x.cfg.Service, "NOT_SERVING")), said
	}
	return nil, said
}
