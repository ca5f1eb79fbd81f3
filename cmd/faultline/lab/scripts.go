// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/keepalive"

	"github.com/faultline-rpc/faultline"
	"github.com/faultline-rpc/faultline/internal/peer"
)

// byPath answers calls of one path in one way and all others in another.
func byPath(path string, there, elsewhere peer.Answer) peer.Script {
	return func(p *peer.Peer) error {
		_, err := p.Handshake()
		paths := map[uint32]string{}
		for err == nil {
			var f peer.Frame
			if f, err = p.Next(); err != nil {
				break
			}
			if v := f.Get(":path"); v != "" && len(paths) < 1000 {
				paths[f.Stream] = v
			}
			switch {
			case !f.End:
			case paths[f.Stream] == path:
				err = there(p, f.Stream)
			default:
				err = elsewhere(p, f.Stream)
			}
		}
		return err
	}
}

// firstThen answers the first call of a connection in one way, the others in
// another.
func firstThen(first, then peer.Answer) peer.Script {
	return func(p *peer.Peer) error {
		answer := first
		_, err := p.Handshake()
		for err == nil {
			var f peer.Frame
			if f, err = p.Next(); err == nil && f.End {
				err = answer(p, f.Stream)
				answer = then
			}
		}
		return err
	}
}

// waiting is a server that sends its SETTINGS and then reads on to the first
// request, which decides who serves the connection, before it answers anything.
func waiting(p *peer.Peer) error {
	_, err := p.Handshake()
	var pings []peer.Frame
	for begun := false; err == nil; {
		var f peer.Frame
		if f, err = p.Next(); err != nil {
			break
		}
		if f.Kind == http2.FramePing && !f.Ack {
			pings = append(pings, f)
		}
		if f.Kind == http2.FrameHeaders && !begun {
			begun, err = true, p.SendSettingsAck()
		}
		if !begun || err != nil {
			continue
		}
		for _, f := range pings {
			err = errors.Join(err, p.SendPing(true, [8]byte(f.Data)))
		}
		pings = nil
		if f.End {
			err = errors.Join(err, peer.OK(serving)(p, f.Stream))
		}
	}
	return err
}

// cutWhenIdle answers calls, holds streams of Watch, and resets the connection
// when one has been held for a moment, as a middlebox does.
func cutWhenIdle(p *peer.Peer) error {
	return byPath("/grpc.health.v1.Health/Watch", peer.After(100*time.Millisecond, peer.Cut()), peer.TrailersOnly(12, ""))(p)
}

// aging makes a server that retires its connections.
func aging() []faultline.ServerOption {
	return []faultline.ServerOption{faultline.KeepaliveParams(keepalive.ServerParameters{
		MaxConnectionAge: 200 * time.Millisecond, MaxConnectionAgeGrace: time.Second})}
}

// unknownFrames are of types that RFC 9113 does not have (section 4.1: they
// are ignored), ALTSVC and ORIGIN among them.
func unknownFrames(p *peer.Peer, stream uint32) error {
	for _, f := range []struct {
		typ    http2.FrameType
		stream uint32
	}{{0x0a, 0}, {0x0c, 0}, {0x10, 0}, {0xee, stream}, {0xff, 0}} {
		err := p.Send("an unknown frame", func(fr *http2.Framer) error { return fr.WriteRawFrame(f.typ, 0xff, f.stream, []byte("whatever")) })
		if err != nil {
			return err
		}
	}
	return nil
}

func manyPings(p *peer.Peer, _ uint32) error {
	for i := range 500 {
		err := p.Send("PING", func(fr *http2.Framer) error { return fr.WritePing(false, [8]byte{byte(i), byte(i >> 8)}) })
		if err != nil {
			return err
		}
	}
	return nil
}

func manySettings(p *peer.Peer, _ uint32) error {
	for i := range 20 {
		if err := p.SendSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: uint32(100 + i)}); err != nil {
			return err
		}
	}
	return nil
}

// inPieces sends header blocks of a few bytes a frame.
func inPieces(p *peer.Peer, stream uint32) error {
	if err := p.SendHeadersSplit(stream, false, 3, ":status", "200", "content-type", "application/grpc"); err != nil {
		return err
	}
	if err := p.SendBody(stream, peer.Message(serving), false); err != nil {
		return err
	}
	return p.SendHeadersSplit(stream, true, 1, "grpc-status", "0")
}
