// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"
)

var orders = Hop{Service: "shop.Orders", Method: "Place", ID: "handler.upstream", Layer: LayerHandler, Code: codes.Unavailable, Side: Local, Processed: Yes,
	Elapsed: 12 * time.Millisecond, Budget: -time.Second, Timed: true, Reference: "00ff"}

var stock = Hop{Service: "shop.Stock", Method: "Reserve", Seen: true, ID: "dial.refused", Layer: LayerDial, Code: codes.Unavailable, Side: Remote, Processed: No,
	Address: "10.0.0.3:443", Text: "dial.refused: nobody"}

// bare is h without what stays in this process.
func bare(h Hop) Hop {
	h.raw = ""
	return h
}

func TestTrailTravels(t *testing.T) {
	got := ReadTrail(WriteTrail(orders, []Hop{stock}), "10.0.0.2:1")
	want := orders
	want.Address = "10.0.0.2:1"
	if len(got) != 2 || bare(got[0]) != want || bare(got[1]) != stock {
		t.Fatalf("got %+v", got)
	}
	f := HandlerUpstream.New(Args{Code: codes.Unavailable}).WithTrail(got)
	next := ReadTrail(WriteTrail(Hop{Service: "shop.Web", Method: "Buy", ID: "handler.upstream", Layer: LayerHandler}, f.Onward("")), "10.0.0.1:1")
	if len(next) != 3 || bare(next[1]) != want || bare(next[2]) != stock || next[0].Address != "10.0.0.1:1" {
		t.Errorf("one service further: %+v", next)
	}
}

func TestUnknownVersionsAndFieldsPass(t *testing.T) {
	later := "\x09what a later version says"
	extended := protowire.AppendTag([]byte(WriteTrail(stock, nil)[0]), 1000, protowire.BytesType)
	extended = protowire.AppendString(extended, "new")
	extended = protowire.AppendTag(extended, 1001, protowire.Fixed32Type)
	extended = protowire.AppendFixed32(extended, 7)
	trail := ReadTrail([]string{later, string(extended)}, "10.0.0.1:1")
	f := HandlerStatus.New(Args{}).WithTrail(trail)
	if got := f.Trail(); len(got) != 1 || bare(got[0]) != stock {
		t.Errorf("shown: %+v", got)
	}
	if got, want := WriteTrail(orders, f.Onward("")), []string{WriteTrail(orders, nil)[0], later, string(extended)}; !reflect.DeepEqual(got, want) {
		t.Errorf("passed on: %q, want %q", got, want)
	}
	if _, _, ok := Verdict(trail, "/shop.Stock/Reserve", codes.Unavailable); ok {
		t.Error("a hop of an unknown version gave a verdict")
	}
}

func TestTrailStaysInItsBudget(t *testing.T) {
	long := strings.Repeat("x", 1000)
	origin := Hop{Service: "origin", Method: long, ID: "dial.refused", Address: long, Reference: long, Text: long}
	trail := []Hop{origin}
	for n := range 200 {
		own := Hop{Service: fmt.Sprint("s", n), Method: long, ID: "handler.upstream", Text: long}
		values := WriteTrail(own, trail)
		size := 0
		for _, v := range values {
			size += fieldSize(len(v))
		}
		trail = ReadTrail(values, "10.0.0.1:1")
		if size > TrailBudget || len(trail) != len(values) {
			t.Fatalf("%d values of %d bytes, %d were read", len(values), size, len(trail))
		}
		dropped := 0
		for _, h := range trail {
			dropped += h.Dropped
		}
		if got := trail[0].Service; got != own.Service || trail[len(trail)-1].Service != "origin" || len(trail)+dropped != n+2 {
			t.Fatalf("after %d services: first %s, last %s, %d hops and %d dropped", n+1, got, trail[len(trail)-1].Service, len(trail), dropped)
		}
	}
}

func TestForgedTrails(t *testing.T) {
	many := make([]string, 1000)
	for i := range many {
		many[i] = "\x01\x12\x01x"
	}
	for _, tc := range []struct {
		name   string
		values []string
		want   int
	}{
		{"nothing", nil, 0},
		{"empty values", []string{"", ""}, 0},
		{"version 0", []string{"\x00abc"}, 0},
		{"no fields", []string{"\x01"}, 0},
		{"cut off", []string{"\x01\x12\x05ab"}, 0},
		{"a field without end", []string{"\x01\x80"}, 0},
		{"no protobuf", []string{"\x01garbage, all of it"}, 0},
		{"too large", []string{"\x02" + strings.Repeat("x", 1024)}, 0},
		{"one bad among good", []string{"\x01\x12\x01x", "\x01\x12", "\x02y"}, 2},
		{"many", many, maxHops},
	} {
		if got := ReadTrail(tc.values, "a"); len(got) != tc.want {
			t.Errorf("%s: %d hops, want %d", tc.name, len(got), tc.want)
		}
	}
	h := ReadTrail([]string{"\x01\x12\x09new.thing\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x20\x63\x28\x63\x38\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x5a\x02\xff\xfe"}, "")[0]
	if h.Layer != LayerUnknown || h.Side != SideUnknown || h.Processed != Maybe || h.Code != 1<<31-1 || h.Elapsed < 0 || h.Text != "" {
		t.Errorf("numbers of nowhere: %+v", h)
	}
}

func TestVerdict(t *testing.T) {
	own := func(id ID, c codes.Code, p Processed) []Hop {
		return ReadTrail(WriteTrail(Hop{Service: "a.B", Method: "C", ID: id, Code: c, Processed: p}.Masked(), nil), "")
	}
	seen := ReadTrail(WriteTrail(Hop{Service: "a.B", Method: "C", Seen: true, ID: "server.draining", Code: codes.Unavailable, Processed: No}, nil), "")
	for _, tc := range []struct {
		name   string
		trail  []Hop
		method string
		code   codes.Code
		entry  *Entry
		proc   Processed
		ok     bool
	}{
		{"unknown method", own("handler.unknown-method", codes.Unimplemented, No), "/a.B/C", codes.Unimplemented, HandlerUnknownMethod, No, true},
		{"behind", own("handler.upstream", codes.NotFound, Yes), "/a.B/C", codes.NotFound, HandlerStatus, Yes, true},
		{"another call", own("server.draining", codes.Unavailable, No), "/a.B/D", codes.Unavailable, HandlerStatus, Maybe, false},
		{"another code", own("server.draining", codes.Unavailable, No), "/a.B/C", codes.Internal, HandlerStatus, Maybe, false},
		{"not its code", own("server.draining", codes.NotFound, No), "/a.B/C", codes.NotFound, HandlerStatus, No, true},
		{"a client's circumstance", own("http2.refused-stream", codes.Unavailable, No), "/a.B/C", codes.Unavailable, HandlerStatus, No, true},
		{"one of the caller's own", own("call.deadline", codes.DeadlineExceeded, No), "/a.B/C", codes.DeadlineExceeded, HandlerStatus, No, true},
		{"of a later version", own("handler.new", codes.Internal, Yes), "/a.B/C", codes.Internal, HandlerStatus, Yes, true},
		{"as seen by a caller", seen, "/a.B/C", codes.Unavailable, HandlerStatus, Maybe, false},
		{"none", nil, "/a.B/C", codes.Unavailable, HandlerStatus, Maybe, false},
	} {
		if e, p, ok := Verdict(tc.trail, tc.method, tc.code); e != tc.entry || p != tc.proc || ok != tc.ok {
			t.Errorf("%s: %v %v %v, want %v %v %v", tc.name, e, p, ok, tc.entry, tc.proc, tc.ok)
		}
	}
	if f := HandlerStatus.New(Args{}).WithTrail(own("handler.status", codes.Internal, Yes)); len(f.Trail()) != 0 {
		t.Errorf("a masked hop is shown: %v", f.Trail())
	}
}

func TestMaskedHopsSayNothing(t *testing.T) {
	h := stock
	h.Elapsed, h.Budget, h.Timed, h.Dropped = 1, 2, true, 3
	wire := WriteTrail(h.Masked(), nil)[0]
	for _, secret := range []string{stock.Address, stock.Text} {
		if strings.Contains(wire, secret) {
			t.Errorf("%q has %q", wire, secret)
		}
	}
	if got := bare(ReadTrail([]string{wire}, "")[0]); got != (Hop{Service: h.Service, Method: h.Method, ID: h.ID, Layer: h.Layer, Code: h.Code, Processed: No, masked: true}) {
		t.Errorf("masked: %+v", got)
	}
}

func FuzzTrail(f *testing.F) {
	f.Add(WriteTrail(orders, nil)[0], WriteTrail(stock, nil)[0])
	f.Add(WriteTrail(orders.Masked(), nil)[0], "\x09later")
	f.Add("\x01\x12\x01x\xc2\x3e\x03abc", "\x01\x80")
	f.Add("", strings.Repeat("\x02", 1024))
	f.Fuzz(func(t *testing.T, a, b string) {
		trail := ReadTrail([]string{a, b, a}, "10.0.0.1:1")
		f := HandlerStatus.New(Args{Evidence: &Evidence{Method: "/a.B/C"}}).WithTrail(trail)
		_ = fmt.Sprintf("%+v", f)
		if _, err := f.MarshalJSON(); err != nil {
			t.Error(err)
		}
		size := 0
		values := WriteTrail(orders, f.Onward(""))
		for _, v := range values {
			size += fieldSize(len(v))
		}
		if size > TrailBudget {
			t.Errorf("%d bytes", size)
		}
		for i, h := range ReadTrail(values, "") {
			if i > 0 && h.opaque && !strings.Contains(a+b, h.raw) {
				t.Errorf("%q came from nowhere", h.raw)
			}
		}
		Verdict(trail, "/a.B/C", codes.Internal)
	})
}
