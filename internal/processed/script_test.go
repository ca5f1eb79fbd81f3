// SPDX-License-Identifier: Apache-2.0

package processed

import (
	"math/rand/v2"
	"net"
	"strconv"
	"time"

	"golang.org/x/net/http2"

	"github.com/faultline-rpc/faultline/internal/peer"
)

// stage is a foreign server that plays a random part, and enters in the ledger
// the calls whose handlers it runs. Whatever it does, it keeps the promises of
// RFC 9113: what it says it has not processed it has not.
type stage struct {
	episode *episode
	service *peer.Service
}

func (e *episode) newStage(seed uint64, settings []http2.Setting, lis net.Listener) *stage {
	s := &stage{episode: e}
	var conns uint64
	next := make(chan uint64, 1)
	next <- conns
	s.service = peer.Serve(lis, func(p *peer.Peer) error {
		n := <-next
		next <- n + 1
		return (&part{stage: s, p: p, r: rand.New(rand.NewPCG(seed, n))}).play()
	}, peer.Options{Settings: settings, Interleave: true, Timeout: time.Hour})
	return s
}

// part is one connection of it.
type part struct {
	*stage
	p     *peer.Peer
	r     *rand.Rand
	calls map[uint32]int // numbers by stream
	due   map[uint32]bool
	late  map[uint32]time.Time // when its caller's patience ends
	mute  bool                 // it has broken a rule, and nobody will listen
	last  uint32               // the last id of a GOAWAY sent
	top   uint32               // the highest stream whose handler ran or may have
}

func (a *part) play() error {
	a.calls, a.due, a.late, a.last = map[uint32]int{}, map[uint32]bool{}, map[uint32]time.Time{}, 1<<31-1
	_, err := a.p.Handshake()
	for err == nil {
		var f peer.Frame
		if f, err = a.p.Next(); err != nil {
			break
		}
		if f.Kind == http2.FrameHeaders {
			n, numErr := strconv.Atoi(f.Get(numberKey))
			if numErr != nil {
				n = -1
			}
			a.calls[f.Stream] = n
			a.due[f.Stream] = true
			a.late[f.Stream] = time.Now().Add(patience(f.Get("grpc-timeout")))
		}
		if !a.due[f.Stream] || f.Kind == http2.FrameRSTStream {
			delete(a.due, f.Stream)
			continue
		}
		if f.End || a.r.IntN(3) == 0 {
			delete(a.due, f.Stream)
			err = a.act(f.Stream)
		}
	}
	if a.p.Ended(err) {
		return nil
	}
	return err
}

// patience reads grpc-timeout; it is zero where there is none.
func patience(s string) time.Duration {
	units := map[byte]time.Duration{'n': 1, 'u': time.Microsecond, 'm': time.Millisecond, 'S': time.Second, 'M': time.Minute, 'H': time.Hour}
	if s == "" {
		return 0
	}
	n, _ := strconv.Atoi(s[:len(s)-1])
	return time.Duration(n) * units[s[len(s)-1]]
}

// run has the stream's handler run.
func (a *part) run(stream uint32) {
	a.top = max(a.top, stream)
	a.episode.ledger.ran(a.calls[stream])
}

// might has it run, or not: nobody will tell.
func (a *part) might(stream uint32) {
	if a.r.IntN(2) == 0 {
		a.run(stream)
	}
}

var (
	okHead = []string{":status", "200", "content-type", "application/grpc"}
	resets = []http2.ErrCode{0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 77}
	https  = []int{400, 401, 403, 404, 429, 431, 500, 502, 503, 504}
)

// act answers one request, or does not.
func (a *part) act(stream uint32) error {
	if stream > a.last || a.mute {
		return nil // it was told that nobody looks at this one
	}
	p, r := a.p, a.r
	if r.IntN(3) == 0 {
		<-time.After(within(r, a.episode.span)) // and all streams behind it wait
	}
	if err := a.oddity(stream); err != nil {
		return err
	}
	switch r.IntN(18) {
	case 0, 1:
		return p.SendRST(stream, http2.ErrCodeRefusedStream)
	case 2:
		a.might(stream)
		return p.SendRST(stream, resets[r.IntN(len(resets))])
	case 3, 4:
		return a.goAway(stream)
	case 5:
		code := r.IntN(20)
		if code == 0 || (code >= 3 && code <= 6) || code == 9 || code == 10 || code == 11 || code == 15 {
			a.run(stream)
		} else {
			a.might(stream)
		}
		var more []string
		if r.IntN(4) == 0 {
			more = []string{"grpc-retry-pushback-ms", []string{"-1", "0", "7", "x"}[r.IntN(4)]}
		}
		return peer.TrailersOnly(code, "a status", more...)(p, stream)
	case 6:
		a.might(stream)
		return peer.HTTPStatus(https[r.IntN(len(https))], "text/html", "<h1>no</h1>")(p, stream)
	case 7:
		a.might(stream)
		return a.begin(stream)
	case 8:
		a.might(stream) // and says nothing
		return nil
	case 9:
		a.might(stream)
		if r.IntN(2) == 0 {
			p.Cut()
			return nil
		}
		return p.Close()
	case 10:
		a.run(stream)
		return a.badMessage(stream)
	case 11:
		a.might(stream)
		if r.IntN(3) == 0 {
			return peer.HugeHeaders(70_000)(p, stream)
		}
		a.mute = true
		return []peer.Answer{peer.BadFrame(), peer.BadBlock(), peer.OverflowWindow(true), peer.OverflowWindow(false)}[r.IntN(4)](p, stream)
	}
	a.run(stream)
	if r.IntN(8) == 0 { // both ends' clocks strike at once
		<-time.After(time.Until(a.late[stream]))
		if r.IntN(2) == 0 {
			return p.SendRST(stream, http2.ErrCodeCancel)
		}
		return peer.TrailersOnly(4, "too late")(p, stream)
	}
	if r.IntN(8) == 0 { // which says nothing more: the answer is complete
		return peer.Then(peer.OK(nil), func(p *peer.Peer, stream uint32) error { return p.SendRST(stream, resets[r.IntN(len(resets))]) })(p, stream)
	}
	return peer.OK(nil)(p, stream)
}

// oddity does what servers may do at any time, and clients must bear.
func (a *part) oddity(stream uint32) error {
	p, r := a.p, a.r
	switch r.IntN(20) {
	case 0: // an interim answer is none
		return p.SendHeaders(stream, false, ":status", "103", "link", "</a.css>")
	case 1:
		return p.SendSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(r.IntN(70_000))})
	case 2:
		return p.SendSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: uint32(r.IntN(3))})
	case 3:
		return p.SendSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: uint32(r.IntN(5000))})
	case 4:
		return p.SendPing(false, [8]byte{1})
	case 5: // a second thought: what was promised of streams above stays
		if a.last < 1<<31-1 && a.last > max(a.top, stream) {
			a.last = max(a.top, stream, a.last-2)
			return p.SendGoAway(a.last, http2.ErrCodeNo, "again")
		}
	}
	return nil
}

// goAway retires the connection with a last id around the stream.
func (a *part) goAway(stream uint32) error {
	r := a.r
	lasts := []uint32{0, stream - 1, stream, stream + 2, 1<<31 - 1}
	if stream > 2 {
		lasts = append(lasts, stream-2)
	}
	last := max(lasts[r.IntN(len(lasts))], a.top)
	a.last = min(a.last, last)
	if stream <= a.last {
		a.might(stream)
	}
	code, debug := http2.ErrCodeNo, ""
	switch r.IntN(4) {
	case 0:
		code, debug = http2.ErrCodeEnhanceYourCalm, "too_many_pings"
	case 1:
		code = resets[r.IntN(len(resets))]
	}
	if err := a.p.SendGoAway(a.last, code, debug); err != nil {
		return err
	}
	switch r.IntN(5) {
	case 0:
		return a.p.Close()
	case 1:
		a.p.Cut()
	case 2:
		if stream <= a.last {
			a.run(stream)
			return peer.OK(nil)(a.p, stream)
		}
	case 3:
		if stream <= a.last {
			return a.p.SendRST(stream, http2.ErrCodeCancel)
		}
	}
	return nil
}

// begin answers with headers and then in some other way than with a message.
func (a *part) begin(stream uint32) error {
	p, r := a.p, a.r
	if err := p.SendHeaders(stream, false, okHead...); err != nil {
		return err
	}
	switch r.IntN(6) {
	case 0:
		return p.SendRST(stream, http2.ErrCodeRefusedStream)
	case 1:
		return p.SendRST(stream, resets[r.IntN(len(resets))])
	case 2:
		return p.SendHeadersSplit(stream, true, 1+r.IntN(40), "grpc-status", []string{"2", "4", "8", "13", "14", "x", ""}[r.IntN(7)], "note", "in pieces")
	case 3:
		return p.SendData(stream, []byte{0, 0, 0}, true)
	case 4:
		p.Cut()
	}
	return nil
}

// badMessage answers with a message after which, or with which, all is not well.
func (a *part) badMessage(stream uint32) error {
	p, r := a.p, a.r
	if err := p.SendHeaders(stream, false, okHead...); err != nil {
		return err
	}
	switch r.IntN(3) {
	case 0:
		return p.SendData(stream, peer.MessageWith(0, maxMessage+1, nil), false)
	case 1:
		if err := p.SendBody(stream, peer.Message([]byte{0xff}), false); err != nil { // no protobuf
			return err
		}
	default:
		if err := p.SendBody(stream, peer.Message(nil), false); err != nil {
			return err
		}
	}
	switch r.IntN(5) {
	case 0:
		return p.SendRST(stream, resets[r.IntN(len(resets))])
	case 1:
		return p.SendRST(stream, http2.ErrCodeRefusedStream)
	case 2:
		p.Cut()
	case 3:
		return p.SendHeaders(stream, true, "grpc-status", "14")
	}
	return nil
}
