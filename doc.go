// SPDX-License-Identifier: Apache-2.0

// Package faultline is gRPC for Go, client and server, built around its error model: every failure says which layer broke, on which side, why, whether the server may have processed the call, and what to do.
//
// Generated stubs and handlers work unchanged. The names are those of
// google.golang.org/grpc:
//
//	s := faultline.NewServer()
//	pb.RegisterGreeterServer(s, &greeter{})
//	s.Serve(lis)
//
//	cc, err := faultline.NewClient("dns:///api:443", faultline.WithTransportCredentials(creds))
//	reply, err := pb.NewGreeterClient(cc).SayHello(ctx, req)
//	if f, ok := fault.From(err); ok {
//		log.Print(f.ID(), f.Layer(), f.Side(), f.Processed(), f.Remedy())
//	}
//
// Metadata, credentials, peer, stats, encoding, health, reflection, resolver
// and balancer of google.golang.org/grpc are used as they are; options are
// this package's own, under the same names. Errors cross freely: each of ours
// has GRPCStatus, and grpc's status.Code agrees with status.Code of this
// module.
package faultline
