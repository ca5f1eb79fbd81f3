// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"crypto/tls"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/faultline-rpc/faultline/event"
)

// transcript prints what happens on the way, like curl -v: "*" is what this
// side notes, ">" what it sends and "<" what it receives. A nil one says
// nothing. It is a sink of events, which it keeps until there is time to print.
type transcript struct {
	w     io.Writer
	start time.Time
	all   bool // -vv: single streams too

	mu   sync.Mutex
	kept []stamped // guarded by mu
	lost int       // guarded by mu
}

type stamped struct {
	at time.Duration
	event.Event
}

// maxKept bounds the events between two prints.
const maxKept = 1000

func newTranscript(w io.Writer, level int) *transcript {
	if level == 0 {
		return nil
	}
	return &transcript{w: w, start: time.Now(), all: level > 1}
}

// sink is t, or no sink.
func (t *transcript) sink() event.Sink {
	if t == nil {
		return nil
	}
	return t
}

// Record implements event.Sink.
func (t *transcript) Record(e event.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.kept) == maxKept {
		t.lost++
		return
	}
	t.kept = append(t.kept, stamped{time.Since(t.start), e})
}

// flush prints the events so far.
func (t *transcript) flush() {
	if t == nil {
		return
	}
	t.mu.Lock()
	kept, lost := t.kept, t.lost
	t.kept, t.lost = nil, 0
	t.mu.Unlock()
	for _, e := range kept {
		if text := t.text(e.Event); text != "" {
			fmt.Fprintf(t.w, "* %s  (+%v)\n", text, round(e.at))
		}
	}
	if lost > 0 {
		fmt.Fprintf(t.w, "* %d more events\n", lost)
	}
}

func round(d time.Duration) time.Duration {
	if d < time.Millisecond {
		return d.Round(time.Microsecond)
	}
	return d.Round(10 * time.Microsecond)
}

// text says what happened; "" is not worth a line.
func (t *transcript) text(e event.Event) string {
	switch e := e.(type) {
	case event.Resolved:
		if e.Err != nil {
			return fmt.Sprintf("resolving %s failed: %v", e.Target, e.Err)
		}
		return fmt.Sprintf("resolved %s: %s", e.Target, strings.Join(e.Addresses, ", "))
	case event.SubchannelState:
		if e.Err != nil {
			return fmt.Sprintf("%s %s: %v", e.Address, e.State, e.Err)
		}
		return e.Address + " " + e.State
	case event.ConnOpened:
		return fmt.Sprintf("HTTP/2 with %s, from %s", e.Remote, e.Local)
	case event.ConnClosed:
		return fmt.Sprintf("the connection ended: %v", e.Err)
	case event.GoAwayReceived:
		return fmt.Sprintf("GOAWAY received: %s, last stream %d, %q", e.Code, e.LastStream, e.Debug)
	case event.GoAwaySent:
		return fmt.Sprintf("GOAWAY sent: %s, %q", e.Code, e.Debug)
	case event.StreamReset:
		by := "the peer"
		if e.Local {
			by = "this side"
		}
		return fmt.Sprintf("stream %d was reset by %s: %s %s", e.Stream, by, e.Code, e.Reason)
	case event.CallRetried:
		return fmt.Sprintf("attempt %d, after: %v", e.Attempt, e.Err)
	case event.StreamOpened:
		if t.all {
			return fmt.Sprintf("stream %d opened", e.Stream)
		}
	}
	return ""
}

func (t *transcript) note(format string, args ...any) {
	if t != nil {
		t.flush()
		fmt.Fprintf(t.w, "* "+format+"\n", args...)
	}
}

// request prints what is about to be sent.
func (t *transcript) request(path string, md metadata.MD) {
	if t == nil {
		return
	}
	t.flush()
	fmt.Fprintf(t.w, "> POST %s\n", path)
	t.metadata(">", md)
}

// answer prints headers or trailers.
func (t *transcript) answer(what string, md metadata.MD) {
	if t == nil {
		return
	}
	t.flush()
	fmt.Fprintf(t.w, "< %s%s\n", what, none(len(md) == 0))
	t.metadata("<", md)
}

func none(is bool) string {
	if is {
		return " (none)"
	}
	return ""
}

func (t *transcript) metadata(mark string, md metadata.MD) {
	for _, name := range slices.Sorted(maps.Keys(md)) {
		for _, v := range md[name] {
			switch {
			case name == "authorization" || name == "cookie":
				v = fmt.Sprintf("(%d bytes, not shown)", len(v))
			case strings.HasSuffix(name, "-bin"):
				v = base64.StdEncoding.EncodeToString([]byte(v))
			default:
				v = quotedIfOdd(v)
			}
			fmt.Fprintf(t.w, "%s   %s: %s\n", mark, name, v)
		}
	}
}

// quotedIfOdd keeps what a peer sent from driving the terminal.
func quotedIfOdd(s string) string {
	if q := strconv.Quote(s); len(q) != len(s)+2 {
		return q
	}
	return s
}

// peer prints what secured the connection.
func (t *transcript) peer(p peer.Peer) {
	if t == nil || p.Addr == nil {
		return
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		t.note("peer %s, cleartext", p.Addr)
		return
	}
	s := info.State
	t.note("peer %s, %s, %s, ALPN %q", p.Addr, tls.VersionName(s.Version), tls.CipherSuiteName(s.CipherSuite), s.NegotiatedProtocol)
	if len(s.PeerCertificates) > 0 {
		c := s.PeerCertificates[0]
		t.note("certificate of %s, by %s, until %s", c.Subject, c.Issuer, c.NotAfter.UTC().Format(time.RFC3339))
	}
}

// done prints the last line.
func (t *transcript) done(sent, received int) {
	if t != nil {
		t.note("%d sent, %d received, in %v", sent, received, round(time.Since(t.start)))
	}
}
