// SPDX-License-Identifier: Apache-2.0

package event

import (
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"slices"
	"sync"
	"testing"
)

// names are stable: programs filter by them.
var names = map[string]Event{
	"h2.conn-opened": ConnOpened{}, "h2.conn-closed": ConnClosed{}, "h2.stream-opened": StreamOpened{}, "h2.stream-reset": StreamReset{},
	"h2.goaway-sent": GoAwaySent{}, "h2.goaway-received": GoAwayReceived{},
	"channel.subchannel-state": SubchannelState{}, "channel.resolved": Resolved{},
	"call.retried": CallRetried{}, "server.call-refused": CallRefused{}, "server.deadline-expired": DeadlineExpired{}, "server.handler-panicked": HandlerPanicked{}, "server.error-masked": ErrorMasked{},
}

func TestNamesAreStable(t *testing.T) {
	pattern := regexp.MustCompile(`^[a-z0-9]+\.[a-z0-9]+(-[a-z0-9]+)*$`)
	for want, e := range names {
		if e.Name() != want || !pattern.MatchString(want) {
			t.Errorf("%T is named %q, want %q", e, e.Name(), want)
		}
	}
	f, err := parser.ParseFile(token.NewFileSet(), "event.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv != nil && fn.Name.Name == "Name" {
			found++
		}
	}
	if found != len(names) {
		t.Errorf("event.go has %d event types, this test knows %d", found, len(names))
	}
}

func TestBufferKeepsTheLatest(t *testing.T) {
	b := &Buffer{Limit: 3}
	if got := b.Events(); len(got) != 0 || b.Lost() != 0 {
		t.Errorf("an empty buffer has %v, lost %d", got, b.Lost())
	}
	for i := range uint64(8) {
		b.Record(ConnOpened{Conn: i})
		first, want := uint64(0), []uint64{}
		if i >= 3 {
			first = i - 2
		}
		for n := first; n <= i; n++ {
			want = append(want, n)
		}
		var got []uint64
		for _, e := range All[ConnOpened](b) {
			got = append(got, e.Conn)
		}
		if !slices.Equal(got, want) || b.Lost() != int(first) {
			t.Errorf("after %d: %v, lost %d; want %v, lost %d", i, got, b.Lost(), want, first)
		}
	}
	b.Record(ConnClosed{})
	if got := b.Names(); !slices.Equal(got, []string{"h2.conn-opened", "h2.conn-opened", "h2.conn-closed"}) {
		t.Errorf("names %v", got)
	}
	if n := len(All[StreamReset](b)); n != 0 {
		t.Errorf("%d resets out of nothing", n)
	}
	b.Events()[0] = nil // the caller's slice
	b.Reset()
	b.Record(ConnClosed{})
	if got := b.Names(); len(got) != 1 || b.Lost() != 0 {
		t.Errorf("after Reset: %v, lost %d", got, b.Lost())
	}
}

func TestBufferIsBoundedAndConcurrent(t *testing.T) {
	var b Buffer
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 1000 {
				b.Record(StreamOpened{})
				b.Lost()
			}
			b.Events()
		})
	}
	wg.Wait()
	if n := len(b.Events()); n != 1024 || b.Lost() != 4000-1024 {
		t.Errorf("kept %d, lost %d", n, b.Lost())
	}
}
