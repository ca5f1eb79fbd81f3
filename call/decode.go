// SPDX-License-Identifier: Apache-2.0

package call

import (
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/stats"

	"github.com/faultline-rpc/faultline/codec"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/wire"
)

// direct returns reply for the reader to decode, if nobody wants to see the
// bytes. No other attempt may be writing to it.
func (c *call) direct(reply any) codec.Direct {
	if c.watch != nil {
		return codec.Direct{}
	}
	return c.codec.Direct(reply)
}

// deliver decodes a response message into reply and frees it. A message
// proves that the handler ran.
func (c *call) deliver(m *wire.Message, reply any) *fault.Fault {
	if m.Decoded {
		return nil
	}
	defer m.Free()
	data := m.Data
	if m.Compressed {
		b, f := c.inflate(data)
		if f != nil {
			return f
		}
		defer b.Free()
		data = b.B
	}
	if err := c.codec.Decode(data, reply); err != nil {
		a := c.received(err)
		a.Side = fault.Remote // the peer sent it
		return fault.CodecResponseParse.Newf(a, "failed to unmarshal the received message: codec %q, %d bytes into %T: %v", c.codec, len(data), reply, err)
	}
	if c.watch != nil {
		c.watch.handle(&stats.InPayload{Client: true, Payload: reply, Length: len(data), CompressedLength: len(m.Data),
			WireLength: m.WireLength(), RecvTime: time.Now()})
	}
	return nil
}

// inflate decompresses a message (doc/compression.md of grpc/grpc).
func (c *call) inflate(p []byte) (*codec.Buffer, *fault.Fault) {
	name := ""
	if h := c.head(); h != nil {
		name = h.Encoding
	}
	own := c.caller.inflate
	comp, ok := codec.LookupCompressor(name, own)
	if comp == nil {
		a := c.received(nil)
		a.Side, a.Code, a.Evidence.Encoding = fault.Remote, codes.Internal, name
		if a.Evidence.Messages <= 1 {
			a.Processed = fault.Maybe // nobody here can read it: it proves no handler
		}
		if ok {
			return nil, fault.CodecResponseCompressor.Newf(a, "a message is marked as compressed and grpc-encoding is %q, expected the name of a compressor", name)
		}
		return nil, fault.CodecResponseCompressor.Newf(a, "a message is compressed with %q, for which no compressor is registered; this client offered %q", name, codec.Supported(own, c.encoding))
	}
	b, err := codec.Decompress(comp, p, c.maxRecv)
	if err == nil {
		return b, nil
	}
	a := c.received(err)
	a.Evidence.Encoding = name
	if f, ok := fault.From(err); ok { // the limit
		ev := *a.Evidence
		ev.Option, ev.Limit, ev.Size = f.Evidence().Option, f.Evidence().Limit, f.Evidence().Size
		return nil, f.WithEvidence(ev).WithProcessed(fault.Yes)
	}
	a.Side = fault.Remote
	return nil, fault.CodecDecompress.Newf(a, "failed to decompress the message: %q cannot read the response: %v", name, err)
}

// received is what the faults of a message that came have in common.
func (c *call) received(cause error) fault.Args {
	ev, _ := c.observed()
	return fault.Args{Side: fault.Local, Processed: fault.Yes, Cause: cause, Evidence: ev}
}
