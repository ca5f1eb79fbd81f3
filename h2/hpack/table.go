// SPDX-License-Identifier: Apache-2.0

package hpack

// staticLen is the number of entries in the static table; dynamic indexes begin
// above it.
const staticLen = 61

// static is the static table of RFC 7541 appendix A.
var static = [staticLen + 1]Field{
	1:  {Name: ":authority", Value: ""},
	2:  {Name: ":method", Value: "GET"},
	3:  {Name: ":method", Value: "POST"},
	4:  {Name: ":path", Value: "/"},
	5:  {Name: ":path", Value: "/index.html"},
	6:  {Name: ":scheme", Value: "http"},
	7:  {Name: ":scheme", Value: "https"},
	8:  {Name: ":status", Value: "200"},
	9:  {Name: ":status", Value: "204"},
	10: {Name: ":status", Value: "206"},
	11: {Name: ":status", Value: "304"},
	12: {Name: ":status", Value: "400"},
	13: {Name: ":status", Value: "404"},
	14: {Name: ":status", Value: "500"},
	15: {Name: "accept-charset", Value: ""},
	16: {Name: "accept-encoding", Value: "gzip, deflate"},
	17: {Name: "accept-language", Value: ""},
	18: {Name: "accept-ranges", Value: ""},
	19: {Name: "accept", Value: ""},
	20: {Name: "access-control-allow-origin", Value: ""},
	21: {Name: "age", Value: ""},
	22: {Name: "allow", Value: ""},
	23: {Name: "authorization", Value: ""},
	24: {Name: "cache-control", Value: ""},
	25: {Name: "content-disposition", Value: ""},
	26: {Name: "content-encoding", Value: ""},
	27: {Name: "content-language", Value: ""},
	28: {Name: "content-length", Value: ""},
	29: {Name: "content-location", Value: ""},
	30: {Name: "content-range", Value: ""},
	31: {Name: "content-type", Value: ""},
	32: {Name: "cookie", Value: ""},
	33: {Name: "date", Value: ""},
	34: {Name: "etag", Value: ""},
	35: {Name: "expect", Value: ""},
	36: {Name: "expires", Value: ""},
	37: {Name: "from", Value: ""},
	38: {Name: "host", Value: ""},
	39: {Name: "if-match", Value: ""},
	40: {Name: "if-modified-since", Value: ""},
	41: {Name: "if-none-match", Value: ""},
	42: {Name: "if-range", Value: ""},
	43: {Name: "if-unmodified-since", Value: ""},
	44: {Name: "last-modified", Value: ""},
	45: {Name: "link", Value: ""},
	46: {Name: "location", Value: ""},
	47: {Name: "max-forwards", Value: ""},
	48: {Name: "proxy-authenticate", Value: ""},
	49: {Name: "proxy-authorization", Value: ""},
	50: {Name: "range", Value: ""},
	51: {Name: "referer", Value: ""},
	52: {Name: "refresh", Value: ""},
	53: {Name: "retry-after", Value: ""},
	54: {Name: "server", Value: ""},
	55: {Name: "set-cookie", Value: ""},
	56: {Name: "strict-transport-security", Value: ""},
	57: {Name: "transfer-encoding", Value: ""},
	58: {Name: "user-agent", Value: ""},
	59: {Name: "vary", Value: ""},
	60: {Name: "via", Value: ""},
	61: {Name: "www-authenticate", Value: ""},
}

// staticNames gives the lowest index of each name in the static table, whose
// entries of one name lie together.
var staticNames = func() map[string]uint8 {
	m := make(map[string]uint8, staticLen)
	for i := staticLen; i > 0; i-- {
		m[static[i].Name] = uint8(i)
	}
	return m
}()

// ring is the decoder's dynamic table (RFC 7541 section 2.3.2): a circular
// buffer in which an index is a subtraction and an eviction a decrement.
type ring struct {
	ents []Field // length is 0 or a power of two
	head uint32  // number of insertions so far; the next goes to ents[head & mask]
	n    uint32  // entries held
	size uint32  // their size in bytes
	max  uint32  // the size's limit, in bytes
}

// at returns the entry that an index on the wire means, static or dynamic.
func (r *ring) at(i uint32) (f *Field, ok bool) {
	if i <= staticLen {
		return &static[i], i > 0
	}
	i -= staticLen + 1
	if i >= r.n {
		return nil, false
	}
	return &r.ents[(r.head-1-i)&uint32(len(r.ents)-1)], true
}

// setMax changes the limit and evicts what exceeds it (section 4.3).
func (r *ring) setMax(max uint32) {
	r.max = max
	r.shrink(max)
}

// shrink evicts the oldest entries until the table's size is at most max.
func (r *ring) shrink(max uint32) {
	for r.size > max {
		f := &r.ents[(r.head-r.n)&uint32(len(r.ents)-1)]
		r.size -= f.Size()
		*f = Field{}
		r.n--
	}
}

// add inserts f, evicting first; an entry larger than the table empties it
// (section 4.4).
func (r *ring) add(f Field) {
	size := f.Size()
	if size > r.max {
		r.shrink(0)
		return
	}
	r.shrink(r.max - size)
	if r.n == uint32(len(r.ents)) {
		r.grow()
	}
	r.ents[r.head&uint32(len(r.ents)-1)] = f
	r.head++
	r.n++
	r.size += size
}

func (r *ring) grow() {
	ents := make([]Field, max(4, 2*len(r.ents)))
	for i := r.head - r.n; i != r.head; i++ {
		ents[i&uint32(len(ents)-1)] = r.ents[i&uint32(len(r.ents)-1)]
	}
	r.ents = ents
}
