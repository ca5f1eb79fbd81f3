// SPDX-License-Identifier: Apache-2.0

package call

import (
	"context"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/faultline-rpc/faultline/channel"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/h2/hpack"
	"github.com/faultline-rpc/faultline/wire"
)

// credentials appends the metadata of the per-call credentials: the client's,
// then the call's own. authority is where the request goes.
func (c *call) credentials(ctx context.Context, p *channel.Picked, authority string, fields []hpack.Field) ([]hpack.Field, *fault.Fault) {
	if len(c.caller.cfg.Creds) == 0 && c.creds == nil {
		return fields, nil
	}
	began := c.caller.now()
	defer func() { c.asked = askedFor(c.caller.now() - began) }()
	ctx = credentials.NewContextWithRequestInfo(ctx, credentials.RequestInfo{Method: c.method, AuthInfo: p.Security})
	uri := audience(authority, c.method)
	f := (*fault.Fault)(nil)
	for _, creds := range c.caller.cfg.Creds {
		if fields, f = c.ask(ctx, p, creds, uri, fields); f != nil {
			return nil, f
		}
	}
	if c.creds != nil {
		return c.ask(ctx, p, c.creds, uri, fields)
	}
	return fields, nil
}

// audience is the service as credentials know it: "https://host/package.Service",
// without the port if that is the default.
func audience(authority, method string) string {
	service := method
	if i := strings.LastIndexByte(method, '/'); i >= 0 {
		service = method[:i]
	}
	return "https://" + strings.TrimSuffix(authority, ":443") + service
}

// ask appends one credential's metadata.
func (c *call) ask(ctx context.Context, p *channel.Picked, creds credentials.PerRPCCredentials, uri string, fields []hpack.Field) ([]hpack.Field, *fault.Fault) {
	if creds.RequireTransportSecurity() {
		if err := credentials.CheckSecurityLevel(p.Security, credentials.PrivacyAndIntegrity); err != nil {
			ev, _ := c.observed()
			return nil, fault.CallInsecureCredentials.Newf(fault.Args{Side: fault.Local, Processed: fault.No, Evidence: ev, Cause: err},
				"cannot send secure credentials on an insecure connection: %T %v", creds, err)
		}
	}
	values, err := creds.GetRequestMetadata(ctx, uri)
	if err != nil {
		if c.ctx.Err() != nil {
			return nil, c.interrupted(fault.PhaseCredentials)
		}
		return nil, c.credentialsFault(err)
	}
	if len(values) == 0 {
		return fields, nil
	}
	md := make(metadata.MD, len(values))
	for k, v := range values {
		k = strings.ToLower(k)
		md[k] = append(md[k], v)
	}
	fields, err = wire.AppendMetadata(fields, md)
	if err != nil {
		return nil, c.unsendable(err)
	}
	return fields, nil
}

// credentialsFault is the failure of a credential to deliver. Its own status
// passes, under the rules of gRFC A54.
func (c *call) credentialsFault(err error) *fault.Fault {
	ev, _ := c.observed()
	a := fault.Args{Side: fault.Local, Processed: fault.No, Cause: err, Evidence: ev}
	st, ok := status.FromError(err)
	if !ok || st.Code() == codes.OK {
		return fault.CallCredentials.Newf(a, "the per-call credentials failed: %v", err)
	}
	ev.GRPCStatus = st.Code().String()
	if fault.OnlyApplications(st.Code()) {
		return fault.ResolveControlPlaneCode.Newf(a, "the per-call credentials answered %s, which only servers may: %s", st.Code(), st.Message())
	}
	if st.Code() <= codes.Unauthenticated { // the catalogue has no others
		a.Code = st.Code()
	}
	return fault.CallCredentials.Newf(a, "the per-call credentials failed with %s: %s", st.Code(), st.Message())
}
