// SPDX-License-Identifier: Apache-2.0

package call

import (
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/faultline-rpc/faultline/codec"
	"github.com/faultline-rpc/faultline/fault"
)

// options is what a call's options say, over the defaults. It does not change
// once it was read.
type options struct {
	waitForReady bool
	// The program said it, or its value: the service config may not.
	waitSaid, sendSaid, recvSaid bool
	maxRecv                      codec.Limit
	maxSend                      codec.Limit
	creds                        credentials.PerRPCCredentials
	authority                    string
	codec                        codec.Codec
	subtype                      string
	encoding                     string // grpc-encoding of the request
	comp                         codec.Compressor
	replay                       int // bytes kept for a repetition
}

// readOptions reads a call's options. Those of calls that ask for nothing are
// shared. r is storage, or nil.
func (c *call) readOptions(opts []grpc.CallOption, r *room) *fault.Fault {
	plain := true
	for _, opt := range opts {
		switch opt.(type) {
		case grpc.StaticMethodCallOption: // every generated call has it
		case grpc.HeaderCallOption, grpc.TrailerCallOption, grpc.PeerCallOption, grpc.OnFinishCallOption:
			c.need(r).opts = opts
		default:
			plain = false
		}
	}
	f := (*fault.Fault)(nil)
	if plain {
		c.options, f = c.caller.plain()
		return f
	}
	c.options = r.own()
	return c.options.resolve(opts, c.caller.deflate)
}

// own returns storage for a call's own options; of no room new storage.
func (r *room) own() *options {
	if r == nil {
		return new(options)
	}
	return &r.options
}

// plain returns the options of calls that ask for nothing. They are made with
// the first call: codecs are registered before.
func (c *Caller) plain() (*options, *fault.Fault) {
	if o := c.common.Load(); o != nil {
		return o, nil
	}
	o := new(options)
	if f := o.resolve(nil, c.deflate); f != nil {
		return o, f
	}
	c.common.Store(o)
	return o, nil
}

// defaultReplay is how much of a request is kept for a repetition, in bytes, as
// grpc-go's MaxRetryRPCBufferSize has it. A unary request is there anyway while
// its call lasts: the limit is for what a policy may send again, and transparent
// retries have none.
const defaultReplay = 256 << 10

// resolve reads a call's options; the last of a kind counts. Types that
// are none of grpc-go's are left alone: they carry data to interceptors. own
// compresses the requests of calls that ask for no compressor, unless it is nil.
func (o *options) resolve(opts []grpc.CallOption, own codec.Compressor) *fault.Fault {
	*o = options{
		maxRecv: codec.Limit{Bytes: codec.DefaultMaxRecv, Option: "MaxCallRecvMsgSize"},
		maxSend: codec.Limit{Bytes: codec.DefaultMaxSend, Option: "MaxCallSendMsgSize"},
		replay:  defaultReplay,
	}
	forced := false
	for _, opt := range opts {
		switch opt := opt.(type) {
		case grpc.FailFastCallOption:
			o.waitForReady, o.waitSaid = !opt.FailFast, true
		case grpc.MaxRecvMsgSizeCallOption:
			o.maxRecv.Bytes, o.recvSaid = opt.MaxRecvMsgSize, true
		case grpc.MaxSendMsgSizeCallOption:
			o.maxSend.Bytes, o.sendSaid = opt.MaxSendMsgSize, true
		case grpc.PerRPCCredsCallOption:
			o.creds = opt.Creds
		case grpc.CompressorCallOption:
			o.encoding = opt.CompressorType
		case grpc.ContentSubtypeCallOption:
			o.subtype = strings.ToLower(opt.ContentSubtype)
		case grpc.ForceCodecCallOption:
			o.codec, forced = codec.FromV1(opt.Codec), true
		case grpc.ForceCodecV2CallOption:
			o.codec, forced = codec.FromV2(opt.CodecV2), true
		case grpc.CustomCodecCallOption:
			o.codec, forced = codec.FromV0(opt.Codec), true
		case grpc.MaxRetryRPCBufferSizeCallOption:
			o.replay = opt.MaxRetryRPCBufferSize
		case grpc.AuthorityOverrideCallOption:
			o.authority = opt.Authority
		}
	}
	if f := o.findCodec(forced); f != nil {
		return f
	}
	return o.findCompressor(own)
}

func (o *options) findCodec(forced bool) *fault.Fault {
	if forced {
		if o.subtype == "" {
			o.subtype = o.codec.Name()
		}
		return nil
	}
	var ok bool
	if o.codec, ok = codec.Lookup(o.subtype); !ok {
		return misuse("no codec is registered for the content-subtype %q, expected one that encoding.RegisterCodecV2 was given, or the option ForceCodecV2", o.subtype)
	}
	return nil
}

func (o *options) findCompressor(own codec.Compressor) *fault.Fault {
	if o.encoding == "" {
		if own != nil {
			o.encoding, o.comp = own.Name(), own
		}
		return nil
	}
	var ok bool
	if o.comp, ok = codec.LookupCompressor(o.encoding, nil); !ok {
		return misuse("no compressor is registered under the name %q that UseCompressor asks for, expected one that encoding.RegisterCompressor was given", o.encoding)
	}
	return nil
}
