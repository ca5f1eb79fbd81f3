// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/h2"
)

// Picked is the connection for one call.
type Picked struct {
	Conn *h2.Conn
	// Sub is the subchannel the connection belongs to.
	Sub *Subchannel
	// Peer is shared by all calls on the connection: do not change it.
	Peer *peer.Peer
	// Authority is the :authority: the channel's, or that of the address.
	Authority string
	// Security is what the handshake found out.
	Security credentials.AuthInfo
	// Done, if not nil, must be called once, when the call has ended.
	Done func(balancer.DoneInfo)
	// Metadata is added to the call by the balancer; it is shared: do not
	// change it.
	Metadata metadata.MD
	// Waited says that the call had to wait for it.
	Waited bool

	link *link
}

// Lost tells the channel that Conn takes no more streams, so that the next
// Pick does not return it again; streams it carries go on. Whoever fails to open a stream for another
// reason than the call's own end calls it. It may be called repeatedly.
func (p Picked) Lost() {
	p.Sub.lost(p.link, partUnknown)
	p.Conn.Drain("no stream could be opened")
}

// PickInterrupted is the error of a Pick whose context ended first.
type PickInterrupted struct {
	// Last is the latest failure on the way to a connection, or nil.
	Last *fault.Fault
	// Phase is what was waited for at the end, one of fault's phases from
	// resolve to pick.
	Phase string
	// Target is the channel's, and Address the one that was tried last, empty
	// before.
	Target, Address string
	// Cause is context.Cause of the context.
	Cause error
}

// Error says what was waited for.
func (e *PickInterrupted) Error() string {
	s := fmt.Sprintf("%v while waiting for a connection (%s)", e.Cause, e.Phase)
	if e.Last != nil {
		s += ": latest failure: " + e.Last.Message()
	}
	return s
}

// Unwrap returns the context's end and the latest failure.
func (e *PickInterrupted) Unwrap() []error {
	if e.Last == nil {
		return []error{e.Cause}
	}
	return []error{e.Cause, e.Last}
}

// pickGeneration is one picker. changed is closed when the next one is there.
type pickGeneration struct {
	picker  balancer.Picker
	changed chan struct{}
}

func newGeneration(p balancer.Picker) *pickGeneration {
	return &pickGeneration{picker: p, changed: make(chan struct{})}
}

// startPicker is the idle channel's: the first call wakes it.
type startPicker struct{ c *Channel }

func (p startPicker) Pick(balancer.PickInfo) (balancer.PickResult, error) {
	p.c.start()
	return balancer.PickResult{}, balancer.ErrNoSubConnAvailable
}

// queuePicker lets calls wait for the next picker.
type queuePicker struct{}

func (queuePicker) Pick(balancer.PickInfo) (balancer.PickResult, error) {
	return balancer.PickResult{}, balancer.ErrNoSubConnAvailable
}

// closedPicker ends all calls.
type closedPicker struct{}

func (closedPicker) Pick(balancer.PickInfo) (balancer.PickResult, error) {
	return balancer.PickResult{}, ErrClosed
}

// failPicker fails calls with the channel's own fault.
type failPicker struct{ err error }

func (p failPicker) Pick(balancer.PickInfo) (balancer.PickResult, error) {
	return balancer.PickResult{}, p.err
}

// Pick returns a connection for a call of method, "/package.Service/Method".
// It waits while the balancer has no decision, and with waitForReady also
// while connections fail. The error is a *fault.Fault, *PickInterrupted when
// ctx ended, or ErrClosed. While the balancer's picker has a ready connection,
// Pick takes no lock and does not allocate.
func (c *Channel) Pick(ctx context.Context, method string, waitForReady bool) (Picked, error) {
	if !c.used.Load() {
		c.used.Store(true)
	}
	for waited := false; ; waited = true {
		g := c.picks.Load()
		res, err := g.picker.Pick(balancer.PickInfo{FullMethodName: method, Ctx: ctx})
		if err == nil {
			if sub, ok := res.SubConn.(*Subchannel); ok {
				if l := sub.ready.Load(); l != nil {
					p := l.picked(res)
					p.Waited = waited
					return p, nil
				}
			}
			// The picker is out of date; the next one is on its way.
			if res.Done != nil {
				res.Done(balancer.DoneInfo{})
			}
		} else if err = c.pickFailed(err, waitForReady); err != nil {
			return Picked{}, err
		}
		if !c.await(ctx, g.changed) {
			return Picked{}, c.interrupted(ctx)
		}
	}
}

// await waits for what a call needs. It returns false when ctx ended first.
func (c *Channel) await(ctx context.Context, what <-chan struct{}) bool {
	c.waiting.Add(1)
	defer c.waiting.Add(-1)
	select {
	case <-what:
		return true
	case <-ctx.Done():
		return false
	}
}

func (l *link) picked(res balancer.PickResult) Picked {
	l.keeper.Load().wake()
	return Picked{Conn: l.conn, Sub: l.sub, Peer: &l.peer, Authority: l.sub.c.serverName(l.addr),
		Security: l.peer.AuthInfo, Done: res.Done, Metadata: res.Metadata, link: l}
}

// pickFailed turns a picker's error into the call's, or nil to wait on.
func (c *Channel) pickFailed(err error, waitForReady bool) error {
	if err == balancer.ErrNoSubConnAvailable {
		return nil
	}
	if err == ErrClosed {
		return err
	}
	var own *toldError
	if !errors.As(err, &own) {
		if st, ok := status.FromError(err); ok {
			return c.dropped(err, st)
		}
	}
	if waitForReady {
		return nil
	}
	// The picker may have flattened its cause to text: what the channel saw
	// itself is better. Only a picker's verdict on nothing we saw is its own.
	f := c.cause.Load()
	if own != nil {
		f = own.fault
	}
	if f == nil {
		return fault.PickNoReady.New(fault.Args{Side: fault.Local, Processed: fault.No,
			Evidence: &fault.Evidence{Target: c.target}, Cause: err})
	}
	if own != nil { // its text is the fault's own
		return f.Above(fault.PickNoReady, "the balancing policy has no other connection")
	}
	return f.Above(fault.PickNoReady, err.Error())
}

// dropped is a status that the balancer decided on: it ends the call, be it
// wait-for-ready or not (gRFC A6), under the rules of gRFC A54.
func (c *Channel) dropped(err error, st *status.Status) *fault.Fault {
	a := fault.Args{Side: fault.Local, Processed: fault.No, Cause: err, Evidence: &fault.Evidence{
		Target: c.target, GRPCStatus: st.Code().String()}}
	if fault.OnlyApplications(st.Code()) {
		return fault.ResolveControlPlaneCode.Newf(a, "the balancer's picker answered %s, which only servers may: %s", st.Code(), st.Message())
	}
	if slices.Contains(fault.PickDropped.Codes, st.Code()) {
		a.Code = st.Code()
	}
	return fault.PickDropped.Newf(a, "the balancer's picker ended the call with %s: %s", st.Code(), st.Message())
}

func (c *Channel) interrupted(ctx context.Context) error {
	phase, address := c.stages.now()
	return &PickInterrupted{Last: c.cause.Load(), Phase: phase, Target: c.target, Address: address, Cause: context.Cause(ctx)}
}

// toldError is a fault as resolvers' and balancers' callbacks get it. It has
// no GRPCStatus: a picker that hands it back means a connection failure, not a
// status that it decided on.
type toldError struct{ fault *fault.Fault }

// Error returns the fault's message.
func (e *toldError) Error() string { return e.fault.Message() }

// Unwrap returns the fault's cause.
func (e *toldError) Unwrap() error { return e.fault.Unwrap() }
