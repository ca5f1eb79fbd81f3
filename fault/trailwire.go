// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"encoding/base64"
	"math"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"
)

// A trail travels in the trailing metadata of a call that failed, one value to
// a hop, the nearest first. A value is a byte with the version, then fields in
// protobuf's wire format: what a later version adds is skipped and passed on.

// TrailKey is the metadata key of a trail's hops.
const TrailKey = "faultline-trail-bin"

const (
	// TrailBudget bounds a trail, in bytes as RFC 9113 section 6.5.2 counts
	// header fields, base64 and the name of each value included.
	TrailBudget = 4096

	trailVersion = 1
	maxHops      = 64
	maxHopField  = 256  // of a text, in bytes
	maxHopName   = 96   // of an id, an address or a reference, in bytes
	maxHopRaw    = 1024 // of a hop that was received, in bytes
)

// The fields of a hop. Numbers are never used again.
const (
	hopPath protowire.Number = iota + 1
	hopID
	hopCode
	hopSide
	hopProcessed
	hopSeen
	hopElapsed   // nanoseconds
	hopBudget    // nanoseconds, zigzag; absent without deadline
	hopAddress   //
	hopReference //
	hopText      //
	hopDropped   //
	hopMasked    //
)

// fieldSize is what a value costs of the budget.
func fieldSize(raw int) int {
	return len(TrailKey) + 32 + base64.RawStdEncoding.EncodedLen(raw)
}

// WriteTrail returns the values of a trail that begins with own, this
// service's hop. Where the budget has no room for all, hops next to own are
// left out and counted: where a failure arose is worth more than how it came
// from there.
func WriteTrail(own Hop, behind []Hop) []string {
	size := 0
	values := make([]string, 1, 1+len(behind))
	for i := range behind {
		v := behind[i].encode()
		values = append(values, v)
		size += fieldSize(len(v))
	}
	for {
		values[0] = own.encode()
		if len(values) == 1 || len(values) <= maxHops && size+fieldSize(len(values[0])) <= TrailBudget {
			return values
		}
		size -= fieldSize(len(values[1]))
		values = append(values[:1], values[2:]...)
		own.Dropped += 1 + behind[0].Dropped
		behind = behind[1:]
	}
}

// encode is the hop's value. A hop that was received keeps its bytes.
func (h *Hop) encode() string {
	if h.raw != "" {
		return h.raw
	}
	b := []byte{trailVersion}
	b = appendText(b, hopPath, h.path(), maxHopField)
	b = appendText(b, hopID, string(h.ID), maxHopName)
	b = appendNumber(b, hopCode, uint64(h.Code))
	b = appendNumber(b, hopSide, uint64(h.Side))
	b = appendNumber(b, hopProcessed, uint64(h.Processed))
	b = appendFlag(b, hopSeen, h.Seen)
	b = appendNumber(b, hopElapsed, uint64(max(h.Elapsed, 0)))
	if h.Timed {
		b = protowire.AppendTag(b, hopBudget, protowire.VarintType)
		b = protowire.AppendVarint(b, protowire.EncodeZigZag(int64(h.Budget)))
	}
	b = appendText(b, hopAddress, h.Address, maxHopName)
	b = appendText(b, hopReference, h.Reference, maxHopName)
	b = appendText(b, hopText, h.Text, maxHopField)
	b = appendNumber(b, hopDropped, uint64(max(h.Dropped, 0)))
	return string(appendFlag(b, hopMasked, h.masked))
}

func appendText(b []byte, n protowire.Number, s string, most int) []byte {
	if s == "" {
		return b
	}
	b = protowire.AppendTag(b, n, protowire.BytesType)
	return protowire.AppendString(b, clip(s, most))
}

func appendNumber(b []byte, n protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	b = protowire.AppendTag(b, n, protowire.VarintType)
	return protowire.AppendVarint(b, v)
}

func appendFlag(b []byte, n protowire.Number, v bool) []byte {
	return appendNumber(b, n, protowire.EncodeBool(v))
}

// clip bounds a text, and makes it valid.
func clip(s string, most int) string {
	return strings.ToValidUTF8(s[:min(len(s), most)], "")
}

// ReadTrail reads the values of a trail as a peer sent them, decoded from
// base64, for a call that was made to address. What is no hop, or goes beyond
// the budget, is left out.
func ReadTrail(values []string, address string) []Hop {
	var all []Hop
	size := 0
	for _, v := range values {
		size += fieldSize(len(v))
		if size > TrailBudget || len(all) == maxHops {
			break
		}
		if h, ok := readHop(v); ok {
			all = append(all, h)
		}
	}
	if len(all) > 0 && !all[0].opaque && !all[0].Seen { // the others are not of that peer
		all[0].locate(clip(address, maxHopName))
	}
	return all
}

// locate adds where the hop came from. Of fields with the same number the last
// counts, so it is appended to what was received.
func (h *Hop) locate(address string) {
	h.Address = address
	if raw := appendText([]byte(h.raw), hopAddress, address, maxHopName); len(raw) <= maxHopRaw {
		h.raw = string(raw)
	}
}

// readHop reads one value; false if it is none.
func readHop(v string) (Hop, bool) {
	if v == "" || v[0] == 0 || len(v) > maxHopRaw {
		return Hop{}, false
	}
	h := Hop{raw: v}
	if v[0] != trailVersion {
		h.opaque = true
		return h, true
	}
	for b := []byte(v[1:]); len(b) > 0; {
		n, t, k := protowire.ConsumeTag(b)
		if k < 0 {
			return Hop{}, false
		}
		b = b[k:]
		switch t {
		case protowire.VarintType:
			var x uint64
			if x, k = protowire.ConsumeVarint(b); k >= 0 {
				h.number(n, x)
			}
		case protowire.BytesType:
			var x []byte
			if x, k = protowire.ConsumeBytes(b); k >= 0 {
				h.text(n, clip(string(x), maxHopField))
			}
		default:
			k = protowire.ConsumeFieldValue(n, t, b)
		}
		if k < 0 {
			return Hop{}, false
		}
		b = b[k:]
	}
	h.Layer = layerOf(h.ID)
	return h, h.ID != ""
}

// number takes a field. What this version has no name for is not known.
func (h *Hop) number(n protowire.Number, x uint64) {
	switch n {
	case hopCode:
		h.Code = codes.Code(min(x, math.MaxInt32))
	case hopSide:
		if x < uint64(len(sideNames)) {
			h.Side = Side(x)
		}
	case hopProcessed:
		if x < uint64(len(processedNames)) {
			h.Processed = Processed(x)
		}
	case hopSeen:
		h.Seen = x != 0
	case hopElapsed:
		h.Elapsed = time.Duration(min(x, math.MaxInt64))
	case hopBudget:
		h.Budget, h.Timed = time.Duration(protowire.DecodeZigZag(x)), true
	case hopDropped:
		h.Dropped = int(min(x, math.MaxInt32))
	case hopMasked:
		h.masked = x != 0
	}
}

func (h *Hop) text(n protowire.Number, s string) {
	switch n {
	case hopPath:
		h.Service, h.Method = splitMethod(s)
	case hopID:
		h.ID = ID(s)
	case hopAddress:
		h.Address = s
	case hopReference:
		h.Reference = s
	case hopText:
		h.Text = s
	}
}

// layerOf is the layer that an id names, also one that this version does not know.
func layerOf(id ID) Layer {
	prefix, _, _ := strings.Cut(string(id), ".")
	for i, n := range layerNames {
		if n == prefix {
			return Layer(i)
		}
	}
	return LayerUnknown
}
