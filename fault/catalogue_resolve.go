// SPDX-License-Identifier: Apache-2.0

package fault

import "google.golang.org/grpc/codes"

// Resolving: from the target's name to addresses.
var (
	ResolveNotFound = entry(Entry{
		ID: "resolve.not-found", Codes: set(codes.Unavailable), By: ByClient,
		Summary: "the target's name does not resolve",
		Cause:   "The name server answered that the name does not exist, or that it has no addresses. Most often the name is misspelled, lacks its namespace or search domain, or belongs to a service that was renamed or deleted. In Kubernetes a headless service without ready pods also answers with no address.",
		Remedy:  "Correct the name: look it up where the client runs (nslookup NAME, getent hosts NAME). In Kubernetes use the full name, service.namespace.svc.cluster.local, and check kubectl get endpoints. For a literal address or a name that only the dialer knows, use the passthrough:/// scheme.",
		Spec:    naming, Rooms: rooms("channel"),
	})
	ResolveFailed = entry(Entry{
		ID: "resolve.failed", Codes: set(codes.Unavailable), By: ByClient,
		Summary: "the resolver could not answer",
		Cause:   "The name server failed (SERVFAIL), refused or did not answer in time, or a custom resolver reported an error. The name itself may be fine. The client keeps the addresses it had, if it had any, and asks again with back-off.",
		Remedy:  "Check that the name server is reachable from where the client runs (/etc/resolv.conf, CoreDNS pods, a firewall on port 53). WaitForReady(true) makes calls wait for the name to resolve instead of failing.",
		Spec:    naming, Rooms: rooms("channel"),
	})
	ResolveBadTarget = entry(Entry{
		ID: "resolve.bad-target", Codes: set(codes.Unknown), By: ByClient,
		Summary: "the target cannot be understood",
		Cause:   "The string given to NewClient is no valid target, or its scheme has no registered resolver. A target reads scheme://authority/endpoint; a bare host:port means dns:///host:port. NewClient returns this error at once, no call is made.",
		Remedy:  "Write the target as dns:///host:port, unix:///path, unix-abstract:name, ipv4:address:port or passthrough:///address, without http:// or https://. A custom scheme must be registered (resolver.Register, or the option WithResolvers) before NewClient.",
		Spec:    naming + "#name-syntax", Rooms: rooms("channel"),
	})
	ResolveBadServiceConfig = entry(Entry{
		ID: "resolve.bad-service-config", Codes: set(codes.Unavailable), By: ByClient,
		Summary: "the service config is invalid and there is no earlier good one",
		Cause:   "The resolver delivered addresses together with a service config that does not parse or does not validate. A client that has a good config keeps it, and one with WithDefaultServiceConfig uses that; one that has neither fails its calls, since it cannot know how the service wants to be called. The resolver is told, and looks again after its back-off.",
		Remedy:  "Correct the service config at its source (the DNS TXT record _grpc_config.host, or the control plane); the message names the offending part. WithDisableServiceConfig ignores what resolvers deliver; WithDefaultServiceConfig sets one locally.",
		Spec:    gRFCA21, Rooms: rooms("channel"),
	})
	ResolveControlPlaneCode = entry(Entry{
		ID: "resolve.control-plane-code", Codes: set(codes.Internal), By: ByClient,
		Summary: "the control plane returned a code that is reserved for applications",
		Cause:   "A resolver, a balancer's picker or per-call credentials failed with INVALID_ARGUMENT, NOT_FOUND, ALREADY_EXISTS, FAILED_PRECONDITION, ABORTED, OUT_OF_RANGE or DATA_LOSS. A caller would take such a code for the server's answer, so it is replaced by INTERNAL and the original text is kept.",
		Remedy:  "Read the original text in the message and fix what it reports. The resolver, picker or credentials should return UNAVAILABLE, UNAUTHENTICATED or another code that is not the application's own.",
		Spec:    gRFCA54, Rooms: rooms("channel", "call"),
	})
)

// Picking: which connection carries the call.
var (
	PickNoReady = entry(Entry{
		ID: "pick.no-ready", Codes: set(codes.Unavailable), By: ByClient,
		Summary: "no connection is ready",
		Cause:   "The balancing policy has no usable connection, and the call does not wait for one. Usually something beneath explains it (a refused port, a failed handshake) and is then reported in its place, with this as a rung above. Alone it means that nothing deeper is known yet.",
		Remedy:  "Look for the earlier failure in the rungs and in the client's events. WaitForReady(true) on the call makes it wait, until its deadline, for a connection.",
		Spec:    waitReady, Rooms: rooms("channel"),
	})
	PickDropped = entry(Entry{
		ID: "pick.dropped", By: ByClient,
		Codes: set(codes.Unavailable, codes.ResourceExhausted, codes.PermissionDenied, codes.Unauthenticated, codes.DeadlineExceeded,
			codes.Canceled, codes.Unimplemented, codes.Internal, codes.Unknown),
		Summary: "the balancing policy dropped the call",
		Cause:   "The balancing policy decided to refuse this call rather than to send it, as drop policies of a control plane do to shed load. The code is the policy's choice, UNAVAILABLE for most. The call was never sent, and it is never retried: a retry would defeat the purpose.",
		Remedy:  "Slow down, or raise the drop threshold in the control plane that configures the policy. Do not retry at once.",
		Spec:    gRFCA6, Rooms: rooms("channel"),
	})
	PickUnhealthy = entry(Entry{
		ID: "pick.unhealthy", Codes: set(codes.Unavailable), By: ByClient,
		Summary: "the server reports that it is not serving",
		Cause:   "The connection works, but the server's health service answers NOT_SERVING (or SERVICE_UNKNOWN) for the name in the service config's healthCheckConfig, so the client sends it no calls. A server that starts up or drains says so on purpose.",
		Remedy:  "Ask the server (faultline call HOST:PORT grpc.health.v1.Health/Check) and wait until it has started, or look why it drains or holds itself for ill. On the server call SetServingStatus(name, SERVING) for that very service name, the empty name included. WithDisableHealthCheck switches the check off on the client.",
		Spec:    gRFCA17, Rooms: rooms("channel"),
	})
)
