// SPDX-License-Identifier: Apache-2.0

package server

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"

	"github.com/faultline-rpc/faultline/codec"
)

// CodecV1 makes c fit for [Config.ForceCodec].
func CodecV1(c encoding.Codec) *codec.Codec {
	k := codec.FromV1(c)
	return &k
}

// CodecV0 makes c fit for [Config.ForceCodec].
func CodecV0(c grpc.Codec) *codec.Codec {
	k := codec.FromV0(c)
	return &k
}

// CodecV2 makes c fit for [Config.ForceCodec].
func CodecV2(c encoding.CodecV2) *codec.Codec {
	k := codec.FromV2(c)
	return &k
}
