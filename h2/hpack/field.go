// SPDX-License-Identifier: Apache-2.0

package hpack

import "math"

// Index says how a field is put on the wire.
type Index uint8

const (
	// Auto lets the encoder put values that repeat into its table.
	Auto Index = iota
	// Literal is for a value that varies from block to block: it is sent as a
	// literal without indexing, its name by index if possible. The value is not
	// retained after the call, so it may lie in memory that is reused.
	Literal
	// Never is for a sensitive value: a never-indexed literal (RFC 7541 section
	// 7.1.3), which intermediaries must not index either.
	Never
)

// Field is one header field. Names are lowercase; neither the decoder nor the
// encoder checks that.
type Field struct {
	Name, Value string
	// Index is Never in decoded fields that the peer sent never-indexed, and
	// Auto in all others.
	Index Index
}

// entryOverhead is what each field costs beyond its bytes (RFC 7541 section
// 4.1, RFC 9113 section 6.5.2).
const entryOverhead = 32

// Size is the field's size in bytes as RFC 7541 section 4.1 counts it: name,
// value and 32.
func (f Field) Size() uint32 {
	return saturate(uint64(len(f.Name)) + uint64(len(f.Value)) + entryOverhead)
}

func saturate(n uint64) uint32 { return uint32(min(n, math.MaxUint32)) }

// Block is a decoded header section. A block that is not Lasting belongs to the
// decoder and is valid until its next Decode; the strings in it are ordinary
// strings and may be kept in either case.
type Block struct {
	// Fields are in the order of the wire.
	Fields []Field
	// Size is the section's size in bytes as RFC 9113 section 6.5.2 counts it,
	// fields that were left out included; it stops at 2^32-1.
	Size uint32
	// WireSize is the block's size in bytes as it came, compressed.
	WireSize int
	// TooLarge means that Size exceeds the decoder's limit; Fields holds what
	// came before the limit. The decoder stays usable.
	TooLarge bool
	// Lasting means that the block is immutable and kept: the same pointer will
	// be delivered whenever the peer sends the same bytes, until its table
	// changes. Sections that consist of indexed fields alone become lasting when
	// they come a second time.
	Lasting bool
	// Memo is the receiver's own reading of a lasting block, nil at first. It is
	// touched on the goroutine that calls Decode only.
	Memo any
	// Check is the connection's own note on a lasting block: what RFC 9113
	// section 8 says of it.
	Check Check
}

// Check is what a connection found when it held a section against RFC 9113
// section 8. The zero value means that it has not looked yet.
type Check struct {
	Kind   uint8  // what the section was taken for; 0 is not looked at yet
	Bad    string // what makes the section malformed, if anything
	Status int    // :status of a response
	Length int64  // content-length, -1 if none
}

// Template is a list of fields that open many header sections. It is immutable
// and may be shared by any number of encoders, each of which caches its encoded
// form by pointer.
type Template struct {
	fields []Field
	size   uint64
}

// NewTemplate makes a template of the fields, whose strings it keeps.
func NewTemplate(fields ...Field) *Template {
	t := &Template{fields: append([]Field(nil), fields...)}
	for _, f := range fields {
		t.size += uint64(f.Size())
	}
	return t
}

// Size is what the template adds to a section's size in bytes as RFC 9113
// section 6.5.2 counts it.
func (t *Template) Size() uint64 { return t.size }

// Fields returns the template's fields, which must not be changed.
func (t *Template) Fields() []Field { return t.fields }
