// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"net"
	"strings"
	"time"

	"golang.org/x/net/http2"
)

// TB is what T needs of a *testing.T.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// T is a peer within a test: whatever does not go as the script wants ends the
// test and prints the dialogue so far. Methods belong on the test's goroutine.
// What T lacks can be done with its Peer and [T.OK].
type T struct {
	*Peer
	t TB
}

// Server plays the server's role on conn for the length of the test. At most
// one Options is given.
func Server(t TB, conn net.Conn, o ...Options) *T { return newT(t, NewServer(conn, first(o))) }

// Client plays the client's role on conn for the length of the test. At most
// one Options is given.
func Client(t TB, conn net.Conn, o ...Options) *T { return newT(t, NewClient(conn, first(o))) }

func first(o []Options) Options {
	if len(o) > 0 {
		return o[0]
	}
	return Options{}
}

func newT(t TB, p *Peer) *T {
	t.Cleanup(func() { p.Close() })
	return &T{Peer: p, t: t}
}

// OK ends the test if err is not nil.
func (t *T) OK(err error) {
	if err != nil {
		t.t.Helper()
		t.t.Fatalf("%v\ndialogue so far:\n  %s", err, strings.Join(t.Dialogue(), "\n  "))
	}
}

// must is OK for methods with a result.
func must[V any](t *T, v V, err error) V {
	t.t.Helper()
	t.OK(err)
	return v
}

// Answer lets the peer answer a request.
func (t *T) Answer(stream uint32, a Answer) { t.t.Helper(); t.OK(a(t.Peer, stream)) }

// Handshake is [Peer.Handshake].
func (t *T) Handshake() Frame { t.t.Helper(); f, err := t.Peer.Handshake(); return must(t, f, err) }

// Send is [Peer.Send].
func (t *T) Send(line string, f func(fr *http2.Framer) error) {
	t.t.Helper()
	t.OK(t.Peer.Send(line, f))
}

// SendRaw is [Peer.SendRaw].
func (t *T) SendRaw(b []byte) { t.t.Helper(); t.OK(t.Peer.SendRaw(b)) }

// SendPreface is [Peer.SendPreface].
func (t *T) SendPreface() { t.t.Helper(); t.OK(t.Peer.SendPreface()) }

// SendSettings is [Peer.SendSettings].
func (t *T) SendSettings(s ...http2.Setting) { t.t.Helper(); t.OK(t.Peer.SendSettings(s...)) }

// SendSettingsAck is [Peer.SendSettingsAck].
func (t *T) SendSettingsAck() { t.t.Helper(); t.OK(t.Peer.SendSettingsAck()) }

// SendHeaders is [Peer.SendHeaders].
func (t *T) SendHeaders(stream uint32, end bool, nameValues ...string) {
	t.t.Helper()
	t.OK(t.Peer.SendHeaders(stream, end, nameValues...))
}

// SendHeadersSplit is [Peer.SendHeadersSplit].
func (t *T) SendHeadersSplit(stream uint32, end bool, size int, nameValues ...string) {
	t.t.Helper()
	t.OK(t.Peer.SendHeadersSplit(stream, end, size, nameValues...))
}

// SendBlock is [Peer.SendBlock].
func (t *T) SendBlock(stream uint32, end bool, block []byte) {
	t.t.Helper()
	t.OK(t.Peer.SendBlock(stream, end, block))
}

// SendRequest is [Peer.SendRequest].
func (t *T) SendRequest(stream uint32, end bool, path string, changes ...string) {
	t.t.Helper()
	t.OK(t.Peer.SendRequest(stream, end, path, changes...))
}

// SendData is [Peer.SendData].
func (t *T) SendData(stream uint32, data []byte, end bool) {
	t.t.Helper()
	t.OK(t.Peer.SendData(stream, data, end))
}

// SendBody is [Peer.SendBody].
func (t *T) SendBody(stream uint32, data []byte, end bool) {
	t.t.Helper()
	t.OK(t.Peer.SendBody(stream, data, end))
}

// SendRST is [Peer.SendRST].
func (t *T) SendRST(stream uint32, code http2.ErrCode) {
	t.t.Helper()
	t.OK(t.Peer.SendRST(stream, code))
}

// SendGoAway is [Peer.SendGoAway].
func (t *T) SendGoAway(last uint32, code http2.ErrCode, debug string) {
	t.t.Helper()
	t.OK(t.Peer.SendGoAway(last, code, debug))
}

// SendWindowUpdate is [Peer.SendWindowUpdate].
func (t *T) SendWindowUpdate(stream, increment uint32) {
	t.t.Helper()
	t.OK(t.Peer.SendWindowUpdate(stream, increment))
}

// SendPing is [Peer.SendPing].
func (t *T) SendPing(ack bool, data [8]byte) { t.t.Helper(); t.OK(t.Peer.SendPing(ack, data)) }

// SendFrame is [Peer.SendFrame].
func (t *T) SendFrame(kind http2.FrameType, flags http2.Flags, stream uint32, payload []byte) {
	t.t.Helper()
	t.OK(t.Peer.SendFrame(kind, flags, stream, payload))
}

// Next is [Peer.Next].
func (t *T) Next() Frame { t.t.Helper(); f, err := t.Peer.Next(); return must(t, f, err) }

// Want is [Peer.Want].
func (t *T) Want(kind http2.FrameType) Frame {
	t.t.Helper()
	f, err := t.Peer.Want(kind)
	return must(t, f, err)
}

// WantOn is [Peer.WantOn].
func (t *T) WantOn(stream uint32, kind http2.FrameType) Frame {
	t.t.Helper()
	f, err := t.Peer.WantOn(stream, kind)
	return must(t, f, err)
}

// WantHeaders is [Peer.WantHeaders].
func (t *T) WantHeaders(stream uint32, nameValues ...string) Frame {
	t.t.Helper()
	f, err := t.Peer.WantHeaders(stream, nameValues...)
	return must(t, f, err)
}

// WantTrailers is [Peer.WantTrailers].
func (t *T) WantTrailers(stream uint32, nameValues ...string) Frame {
	t.t.Helper()
	f, err := t.Peer.WantTrailers(stream, nameValues...)
	return must(t, f, err)
}

// WantData is [Peer.WantData].
func (t *T) WantData(stream uint32, n int) []byte {
	t.t.Helper()
	b, err := t.Peer.WantData(stream, n)
	return must(t, b, err)
}

// WantMessage is [Peer.WantMessage].
func (t *T) WantMessage(stream uint32) []byte {
	t.t.Helper()
	b, err := t.Peer.WantMessage(stream)
	return must(t, b, err)
}

// WantBody is [Peer.WantBody].
func (t *T) WantBody(stream uint32) []byte {
	t.t.Helper()
	b, err := t.Peer.WantBody(stream)
	return must(t, b, err)
}

// WantResponse is [Peer.WantResponse].
func (t *T) WantResponse(stream uint32) *Response {
	t.t.Helper()
	r, err := t.Peer.WantResponse(stream)
	return must(t, r, err)
}

// WantRST is [Peer.WantRST].
func (t *T) WantRST(stream uint32, code http2.ErrCode) {
	t.t.Helper()
	t.OK(t.Peer.WantRST(stream, code))
}

// WantGoAway is [Peer.WantGoAway].
func (t *T) WantGoAway(code http2.ErrCode) Frame {
	t.t.Helper()
	f, err := t.Peer.WantGoAway(code)
	return must(t, f, err)
}

// WantPing is [Peer.WantPing].
func (t *T) WantPing(ack bool) Frame {
	t.t.Helper()
	f, err := t.Peer.WantPing(ack)
	return must(t, f, err)
}

// WantSettingsAck is [Peer.WantSettingsAck].
func (t *T) WantSettingsAck() { t.t.Helper(); t.OK(t.Peer.WantSettingsAck()) }

// WantClosed is [Peer.WantClosed].
func (t *T) WantClosed() { t.t.Helper(); t.OK(t.Peer.WantClosed()) }

// WantQuiet is [Peer.WantQuiet].
func (t *T) WantQuiet(d time.Duration) { t.t.Helper(); t.OK(t.Peer.WantQuiet(d)) }
