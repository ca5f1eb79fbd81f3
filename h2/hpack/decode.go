// SPDX-License-Identifier: Apache-2.0

package hpack

import (
	"errors"
	"fmt"
)

// InitialTableSize is the size in bytes of both dynamic tables until SETTINGS
// say otherwise (RFC 9113 section 6.5.2).
const InitialTableSize = 4096

// minStringLimit is the least bound, in bytes, of a string on the wire.
const minStringLimit = 64 << 10

var (
	errUpdateLate = errors.New("hpack: table size update inside a block, expected at its start")
	errUpdateMany = errors.New("hpack: more than two table size updates at the start of a block")
)

// Decoder reads the header sections of one connection, in the order of the
// wire (RFC 7541). It is not safe for concurrent use.
type Decoder struct {
	table   ring
	allowed uint32 // the largest table size the peer may choose
	maxList uint32
	maxStr  uint32 // bytes of one string on the wire

	scratch Block
	buf     []byte // Huffman-decoded strings of one field
	recent  recent
	cache   blockCache
	indexed bool // the block being decoded is made of indexed fields alone
	err     error
}

// NewDecoder makes a decoder for a connection that announces maxTable as
// SETTINGS_HEADER_TABLE_SIZE, and bounds header sections to maxList bytes as
// RFC 9113 section 6.5.2 counts them.
//
// Both sides start with a table of [InitialTableSize]. Until
// [Decoder.SetAllowedMaxTableSize] says that the peer knows better, it may use
// that, or maxTable if that is more.
func NewDecoder(maxTable, maxList uint32) *Decoder {
	d := &Decoder{
		allowed: max(maxTable, InitialTableSize),
		maxList: maxList,
		maxStr:  saturate(max(2*uint64(maxList), minStringLimit)),
	}
	d.table.max = InitialTableSize
	d.cache.invalidate()
	return d
}

// SetAllowedMaxTableSize is to be called when the peer has acknowledged
// SETTINGS that carry SETTINGS_HEADER_TABLE_SIZE n, in bytes. If the peer's
// table is larger then, its next block must begin with a table size update to n
// or less (RFC 7541 section 4.2), or Decode fails.
func (d *Decoder) SetAllowedMaxTableSize(n uint32) {
	d.allowed = n
	d.cache.invalidate()
}

// Decode reads one complete header block. An error is a COMPRESSION_ERROR of
// the connection (RFC 9113 section 4.3); it is final. p is not retained. The
// block is valid until the next Decode unless it is Lasting.
func (d *Decoder) Decode(p []byte) (*Block, error) {
	if d.err != nil {
		return nil, d.err
	}
	known := d.cache.find(p)
	if known != nil && known.block != nil {
		return known.block, nil
	}
	if err := d.decode(p); err != nil {
		d.err = err
		return nil, err
	}
	d.scratch.WireSize = len(p)
	if d.indexed && !d.scratch.TooLarge {
		if known == nil {
			d.cache.note(p)
		} else {
			return known.keep(&d.scratch), nil
		}
	}
	return &d.scratch, nil
}

// decode reads p into d.scratch.
func (d *Decoder) decode(p []byte) error {
	d.reset()
	p, err := d.updates(p)
	if err != nil {
		return err
	}
	for len(p) > 0 {
		if p[0] >= 0x80 { // indexed field, section 6.1
			i := uint32(p[0] & 0x7f)
			if i < 0x7f { // all but the oldest entries of a full table
				p = p[1:]
			} else if i, p, err = readInt(p, 7); err != nil {
				return err
			}
			f, ok := d.table.at(i)
			if !ok {
				return d.badIndex(i)
			}
			if d.admit(f.Size()) {
				d.scratch.Fields = append(d.scratch.Fields, *f)
			}
			continue
		}
		d.indexed = false
		if p, err = d.literal(p); err != nil {
			return err
		}
	}
	return nil
}

// reset empties the scratch block. What one large block made grow is let go.
func (d *Decoder) reset() {
	const keepFields, keepBytes = 256, 4 << 10
	fields := d.scratch.Fields[:0]
	if cap(fields) > keepFields {
		fields = nil
	}
	if cap(d.buf) > keepBytes {
		d.buf = nil
	}
	d.scratch = Block{Fields: fields}
	d.indexed = true
}

// updates reads the table size updates at a block's start (sections 4.2 and
// 6.3): at most two, the smallest since the last block and the final one.
func (d *Decoder) updates(p []byte) ([]byte, error) {
	for n := 0; len(p) > 0 && p[0]&0xe0 == 0x20; n++ {
		if n == 2 {
			return nil, errUpdateMany
		}
		size, rest, err := readInt(p, 5)
		if err != nil {
			return nil, err
		}
		if size > d.allowed {
			return nil, fmt.Errorf("hpack: table size update to %d, expected at most %d", size, d.allowed)
		}
		d.table.setMax(size)
		d.cache.invalidate()
		d.indexed = false
		p = rest
	}
	if d.table.max > d.allowed {
		return nil, fmt.Errorf("hpack: no table size update after SETTINGS_HEADER_TABLE_SIZE %d was acknowledged, the table's size is %d", d.allowed, d.table.max)
	}
	return p, nil
}

// admit counts a field of that size and reports whether it is within the limit.
// Once one is not, none is: a table entry that is referred to thousands of times
// makes nothing grow.
func (d *Decoder) admit(size uint32) bool {
	b := &d.scratch
	b.Size = saturate(uint64(b.Size) + uint64(size))
	b.TooLarge = b.TooLarge || b.Size > d.maxList
	return !b.TooLarge
}

// literal reads a literal field (section 6.2). Strings are made only for what
// is kept, in the block or in the table.
func (d *Decoder) literal(p []byte) ([]byte, error) {
	bits, insert, index := uint(4), false, Auto
	switch b := p[0]; {
	case b&0xc0 == 0x40:
		bits, insert = 6, true
	case b&0xf0 == 0x10:
		index = Never
	case b&0xe0 == 0x20:
		return nil, errUpdateLate
	}
	i, p, err := readInt(p, bits)
	if err != nil {
		return nil, err
	}
	d.buf = d.buf[:0]
	var name string
	var rawName, rawValue []byte
	slot := i
	if i == 0 {
		if rawName, p, err = d.str(p); err != nil {
			return nil, err
		}
		slot = slotOf(rawName)
	} else {
		f, ok := d.table.at(i)
		if !ok {
			return nil, d.badIndex(i)
		}
		if name = f.Name; i > staticLen {
			slot = i - staticLen - 1 - d.table.head // the entry's own number: i moves with each insertion
		}
	}
	if rawValue, p, err = d.str(p); err != nil {
		return nil, err
	}
	size := saturate(uint64(len(name)+len(rawName)+len(rawValue)) + entryOverhead)
	admitted := d.admit(size)
	if insert {
		d.cache.invalidate()
		if size > d.table.max {
			d.table.shrink(0) // section 4.4: not an error
			insert = false
		}
	}
	if !admitted && !insert {
		return p, nil
	}
	f := Field{Name: name, Index: index}
	if i == 0 {
		f.Name = d.recent.name(slot, rawName)
	}
	if index == Never {
		f.Value = string(rawValue) // a secret is kept by nobody but its receiver
	} else {
		f.Value = d.recent.value(slot, rawValue)
	}
	if insert {
		d.table.add(f)
	}
	if admitted {
		d.scratch.Fields = append(d.scratch.Fields, f)
	}
	return p, nil
}

// str reads a string (section 5.2), which lies in p or in d.buf.
func (d *Decoder) str(p []byte) (s, rest []byte, err error) {
	if len(p) == 0 {
		return nil, nil, errTruncated
	}
	coded := p[0] >= 0x80
	n, p, err := readInt(p, 7)
	if err != nil {
		return nil, nil, err
	}
	if n > d.maxStr {
		return nil, nil, fmt.Errorf("hpack: string of %d bytes, expected at most %d", n, d.maxStr)
	}
	if uint64(n) > uint64(len(p)) {
		return nil, nil, errTruncated
	}
	if !coded {
		return p[:n], p[n:], nil
	}
	start := len(d.buf)
	var ok bool
	if d.buf, ok = appendHuffmanDecoded(d.buf, p[:n]); !ok {
		return nil, nil, errHuffman
	}
	return d.buf[start:], p[n:], nil
}

func (d *Decoder) badIndex(i uint32) error {
	if i == 0 {
		return errors.New("hpack: index 0, expected 1 or more")
	}
	return fmt.Errorf("hpack: index %d, expected at most %d", i, staticLen+d.table.n)
}

// recent remembers the last literal name and value in each of a few slots, so
// that a literal that repeats is the same string again. It is allocated by the
// first literal.
type recent struct {
	slots *[recentSlots]struct{ name, value string }
}

const (
	recentSlots = 8
	// recentLen bounds the strings remembered, in bytes: 4 KiB in all.
	recentLen = 256
)

// slotOf spreads names over the slots.
func slotOf(name []byte) uint32 {
	h := uint32(len(name))
	for _, c := range name[:min(len(name), 64)] {
		h = h*31 + uint32(c)
	}
	return h
}

func (r *recent) name(slot uint32, raw []byte) string {
	if len(raw) > recentLen || len(raw) == 0 {
		return string(raw)
	}
	if r.slots == nil {
		r.slots = new([recentSlots]struct{ name, value string })
	}
	return same(&r.slots[slot%recentSlots].name, raw)
}

func (r *recent) value(slot uint32, raw []byte) string {
	if len(raw) > recentLen || len(raw) == 0 {
		return string(raw)
	}
	if r.slots == nil {
		r.slots = new([recentSlots]struct{ name, value string })
	}
	return same(&r.slots[slot%recentSlots].value, raw)
}

func same(s *string, raw []byte) string {
	if *s != string(raw) {
		*s = string(raw)
	}
	return *s
}

// blockCache holds the blocks that came last and are made of indexed fields
// alone. What they mean depends on the table, so that any change of the table
// makes all of them unknown.
type blockCache struct {
	version uint64 // of the table
	next    int
	blocks  *[8]cachedBlock // made by the first block to note
}

type cachedBlock struct {
	version uint64
	raw     []byte
	block   *Block // nil until the bytes come a second time
}

// cachedLen bounds the blocks that are cached, in bytes.
const cachedLen = 128

func (c *blockCache) invalidate() { c.version++ }

func (c *blockCache) find(p []byte) *cachedBlock {
	if c.blocks == nil {
		return nil
	}
	for i := range c.blocks {
		b := &c.blocks[i]
		if len(b.raw) == len(p) && b.version == c.version && string(b.raw) == string(p) {
			return b
		}
	}
	return nil
}

// note remembers that p came.
func (c *blockCache) note(p []byte) {
	if len(p) > cachedLen {
		return
	}
	if c.blocks == nil {
		c.blocks = new([8]cachedBlock)
	}
	b := &c.blocks[c.next]
	c.next = (c.next + 1) % len(c.blocks)
	b.version, b.block = c.version, nil
	b.raw = append(b.raw[:0], p...)
}

// keep makes a lasting copy of b.
func (c *cachedBlock) keep(b *Block) *Block {
	c.block = &Block{Fields: append([]Field(nil), b.Fields...), Size: b.Size, WireSize: b.WireSize, Lasting: true}
	return c.block
}
