// SPDX-License-Identifier: Apache-2.0

package fault

import "google.golang.org/grpc/codes"

// The server as a whole.
var (
	ServerDraining = entry(Entry{
		ID: "server.draining", Codes: set(codes.Unavailable), By: ByServer,
		Summary: "the server is shutting down and takes no new calls",
		Cause:   "GracefulStop or Shutdown is under way: calls in flight may finish, new ones are refused. No handler ran for this one, so it can be sent to another server at once.",
		Remedy:  "It is safe to call again. Seen by users during rollouts: let the readiness probe fail before the shutdown begins (a preStop sleep in Kubernetes), and keep enough replicas.",
		Spec:    errorGuide, Rooms: rooms("server", "wire"),
	})
	ServerStopped = entry(Entry{
		ID: "server.stopped", Codes: set(codes.Unavailable), By: ByServer,
		Summary: "the server was stopped while the handler ran",
		Cause:   "Stop, or a Shutdown whose time ran out, closed the connections under running handlers. What the handler had done by then stays done.",
		Remedy:  "Use GracefulStop or Shutdown with enough time for the longest call (Kubernetes: terminationGracePeriodSeconds above it). Retry only what is idempotent.",
		Spec:    errorGuide, Rooms: rooms("server", "wire"),
	})
	ServerOverloaded = entry(Entry{
		ID: "server.overloaded", Codes: set(codes.ResourceExhausted), By: ByServer,
		Summary: "the server has no capacity for another call",
		Cause:   "As many handlers run as the server permits, or the requests that wait to be handled hold more memory than its budget. The call was refused before any handler ran, to protect those in progress.",
		Remedy:  "Call again later, with back-off and jitter. On the server find what makes handlers slow (a dependency, locks), add replicas, or raise the limit that the evidence names.",
		Spec:    statusCodes, Rooms: rooms("server"),
	})
	ServerMaxAge = entry(Entry{
		ID: "server.max-age", Codes: set(codes.Unavailable), By: ByServer,
		Summary: "the connection reached its maximum age and the call outlived the grace",
		Cause:   "The server retires connections after MaxConnectionAge so that clients spread over new replicas. Calls in flight may finish within MaxConnectionAgeGrace; this one did not.",
		Remedy:  "Raise MaxConnectionAgeGrace in keepalive.ServerParameters above the longest call, or let long streams end and restart by themselves from time to time.",
		Spec:    gRFCA9, Rooms: rooms("server", "wire"),
	})
	ServerMaxIdle = entry(Entry{
		ID: "server.max-idle", Codes: set(codes.Unavailable), By: ByServer,
		Summary: "the connection was idle for too long and is being closed",
		Cause:   "The server retires connections without calls after MaxConnectionIdle, with GOAWAY in two steps. No call ends with it: one that crosses with the first step is served, one that crosses with the last is http2.goaway, and clients repeat it on a new connection by themselves. faultline doctor names it for a connection that it watches.",
		Remedy:  "Usually nothing. Raise MaxConnectionIdle in keepalive.ServerParameters if connections are opened and closed all the time.",
		Spec:    gRFCA9, Rooms: rooms("server", "wire"),
	})
)

// The application's handler.
var (
	HandlerStatus = entry(Entry{
		ID: "handler.status", Codes: nil, By: ByServer,
		Summary: "the application answered with an error",
		Cause:   "The handler on the server, or an interceptor before it, returned this status on purpose. The transport, the connection and the protocol worked. Some codes can also come from a gRPC library on the server; the seven that no library generates are certainly the application's.",
		Remedy:  "Read the message and the details: they are the application's own words. For the codes' meaning and whether a retry makes sense see the codes package.",
		Spec:    statusCodes, Rooms: rooms("wire", "call", "server"),
	})
	HandlerUnknownService = entry(Entry{
		ID: "handler.unknown-service", Codes: set(codes.Unimplemented), By: ByServer,
		Summary: "the server does not have this service",
		Cause:   "No service of that name is registered on the server. The client talks to the wrong server or port, the server forgot to register it, or the package name in the .proto file changed, which is part of the service's name.",
		Remedy:  "Compare with what is registered (faultline list HOST:PORT, with reflection on). Call pb.RegisterXServer(s, impl) before Serve. The evidence names the nearest registered name.",
		Spec:    statusCodes, Rooms: rooms("server", "wire"),
	})
	HandlerUnknownMethod = entry(Entry{
		ID: "handler.unknown-method", Codes: set(codes.Unimplemented), By: ByServer,
		Summary: "the service does not have this method",
		Cause:   "The service is registered but has no method of that name: the server was built from an older .proto file, or the method was renamed. A path that is not /package.Service/Method is answered so as well.",
		Remedy:  "Deploy the server before clients that use a new method. Compare names with faultline describe; the evidence names the nearest one. A method that only the embedded Unimplemented server has says \"method X not implemented\" instead.",
		Spec:    statusCodes, Rooms: rooms("server", "wire"),
	})
	HandlerNotStatus = entry(Entry{
		ID: "handler.not-status", Codes: set(codes.Unknown), By: ByServer,
		Summary: "the handler returned an error that is no status",
		Cause:   "A handler's error that carries no gRPC status may hold what callers must not see (queries, paths, addresses). So the caller gets UNKNOWN and a reference; the full text is in the server's log under that reference.",
		Remedy:  "Find the reference in the server's log. In the handler return status.Errorf(code, ...) for errors that callers should understand, with status.Wrap to keep the cause on the server.",
		Spec:    errorGuide, Rooms: rooms("server"),
	})
	HandlerPanic = entry(Entry{
		ID: "handler.panic", Codes: set(codes.Unknown), By: ByServer,
		Summary: "the handler panicked",
		Cause:   "The handler's code panicked and the server recovered, so that other calls go on. The stack is in the server's log under the reference; the caller gets nothing else.",
		Remedy:  "Find the reference in the server's log and fix the panic: a nil pointer, an index out of range, a closed channel. What the handler had done before stays done.",
		Spec:    errorGuide, Rooms: rooms("server"),
	})
	HandlerContext = entry(Entry{
		ID: "handler.context", Codes: set(codes.Canceled, codes.DeadlineExceeded), By: ByServer,
		Summary: "the handler returned its context's error",
		Cause:   "The handler returned context.Canceled or context.DeadlineExceeded as it is. Either the caller went away or ran out of time, or a narrower context that the handler made for a database or another service ended.",
		Remedy:  "If the caller was still there, the handler's own timeout is too short: return status.Error(codes.Unavailable, ...) or DeadlineExceeded with a text that names the dependency. context.Cause(ctx) says why a context ended.",
		Spec:    statusCodes, Rooms: rooms("server"),
	})
	HandlerUpstream = entry(Entry{
		ID: "handler.upstream", Codes: nil, By: ByServer,
		Summary: "a service behind the handler failed, and the handler passed its error on",
		Cause:   "The handler called another service, received a status and returned it unchanged. The failure arose further on: the trail names the hop. The code may mean something else to this caller than it did to the handler.",
		Remedy:  "Follow the trail to the service where it arose. Where the upstream's code would mislead callers (its NOT_FOUND, its INVALID_ARGUMENT), let the handler translate it: status.Wrap(err, codes.Internal, \"...\").",
		Spec:    errorGuide, Rooms: rooms("server"),
	})
)

// What refuses a call before its handler.
var (
	PolicyUnauthenticated = entry(Entry{
		ID: "policy.unauthenticated", Codes: set(codes.Unauthenticated), By: ByServer,
		Summary: "the call carries no valid credentials",
		Cause:   "The server's authentication could not tell who is calling. The token is missing, malformed, expired, or signed for another audience.",
		Remedy:  "Attach credentials with WithPerRPCCredentials (or PerRPCCredentials on the call), refresh an expired token, and check that proxies between forward the authorization field.",
		Spec:    statusCodes, Rooms: rooms("intercept", "server"),
	})
	PolicyPermission = entry(Entry{
		ID: "policy.permission", Codes: set(codes.PermissionDenied), By: ByServer,
		Summary: "the caller is not allowed to make this call",
		Cause:   "The server knows who is calling, and its rules do not permit this caller this method or resource. Other credentials of the same caller will not help.",
		Remedy:  "Ask for the role or scope that the method needs, or correct the server's rules. Retrying is useless.",
		Spec:    statusCodes, Rooms: rooms("intercept", "server"),
	})
	PolicyRateLimit = entry(Entry{
		ID: "policy.rate-limit", Codes: set(codes.ResourceExhausted), By: ByServer,
		Summary: "the caller's quota is used up",
		Cause:   "The caller made more calls than its quota permits in the current period. The details say which quota (QuotaFailure) and when to come back (RetryInfo).",
		Remedy:  "Wait for the time in RetryInfo (status.RetryDelay reads it) and slow down; ask for a larger quota if the need is lasting.",
		Spec:    richErrors, Rooms: rooms("intercept", "server"),
	})
	PolicyValidation = entry(Entry{
		ID: "policy.validation", Codes: set(codes.InvalidArgument), By: ByServer,
		Summary: "the request breaks the service's rules",
		Cause:   "The request parses, but a field's value is not one the service accepts. The BadRequest detail names each field and what is wrong with it.",
		Remedy:  "Correct the fields that the details name (status.FieldViolations reads them). Retrying the same request is useless.",
		Spec:    richErrors, Rooms: rooms("intercept", "server"),
	})
	PolicyBudget = entry(Entry{
		ID: "policy.budget", Codes: set(codes.DeadlineExceeded), By: ByServer,
		Summary: "too little of the deadline is left for this method",
		Cause:   "The method is known to need more time than the caller's deadline leaves, so the call was refused at once instead of being worked on in vain. The hops before it used up the budget, or it was too small from the start.",
		Remedy:  "Give the call more time at its origin, or find which hop used it up (the ledger says). On the server lower the method's declared need if it is set too high.",
		Spec:    timeGuide, Rooms: rooms("intercept", "server"),
	})
)
