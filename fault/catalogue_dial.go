// SPDX-License-Identifier: Apache-2.0

package fault

import "google.golang.org/grpc/codes"

// Dialing: opening a socket, directly or through a proxy.
var (
	DialRefused = entry(Entry{
		ID: "dial.refused", Codes: set(codes.Unavailable), By: ByClient,
		Summary: "nothing listens at the address",
		Cause:   "The host answered, and said that no program listens on that port. The server is not running, listens on another port, or listens on 127.0.0.1 only while the client comes from another machine or container.",
		Remedy:  "Check the port and that the server is up (ss -ltnp on its machine). In a container listen on :50051, not on localhost:50051, and publish the port. In Kubernetes compare the service's targetPort with the container's port.",
		Spec:    backoff, Rooms: rooms("channel"),
	})
	DialUnreachable = entry(Entry{
		ID: "dial.unreachable", Codes: set(codes.Unavailable), By: ByClient,
		Summary: "there is no route to the address",
		Cause:   "The operating system or a router said that the host or network cannot be reached. The address belongs to a network this machine is not connected to, a VPN is down, or a firewall answers with an ICMP rejection.",
		Remedy:  "Check the route (ip route get ADDRESS), the VPN and firewall rules or network policies. A name that resolves to IPv6 on a machine without IPv6 also fails this way: look at the address in the evidence.",
		Spec:    backoff, Rooms: rooms("channel"),
	})
	DialTimeout = entry(Entry{
		ID: "dial.timeout", Codes: set(codes.Unavailable), By: ByClient,
		Summary: "the address does not answer",
		Cause:   "Packets to the address were neither answered nor rejected until the connect timeout (20 seconds unless configured). Typically a firewall, security group or network policy drops them, the machine is down, or the address is stale.",
		Remedy:  "A firewall, security group or Kubernetes NetworkPolicy drops the packets, the address is stale or its machine is down, or the listener's backlog is full because the process is frozen or overloaded. Try nc -vz HOST PORT from the client's machine. WithConnectParams sets MinConnectTimeout.",
		Spec:    backoff, Rooms: rooms("channel"),
	})
	DialPermission = entry(Entry{
		ID: "dial.permission", Codes: set(codes.Unavailable), By: ByClient,
		Summary: "connecting to the address is not permitted",
		Cause:   "The operating system refused to open the connection for this user. For a unix socket the file's mode or a directory above it forbids it; for TCP a local firewall or sandbox does (SELinux, AppArmor, seccomp).",
		Remedy:  "Look at the socket's owner and mode (ls -l PATH) and at the directories above it: connecting needs write permission on the socket. Otherwise look into the sandbox's audit log.",
		Spec:    backoff, Rooms: rooms("channel"),
	})
	DialMissing = entry(Entry{
		ID: "dial.missing", Codes: set(codes.Unavailable), By: ByClient,
		Summary: "the unix socket does not exist",
		Cause:   "There is no file at the path of the unix target. The server has not started yet, made its socket elsewhere, or the path is seen differently because of a container, a chroot or a relative path.",
		Remedy:  "Check the path on both sides. Targets are unix:///absolute/path or unix:relative/path, the latter relative to the client's working directory. In containers mount the socket's directory, not the socket.",
		Spec:    naming, Rooms: rooms("channel"),
	})
	DialProxy = entry(Entry{
		ID: "dial.proxy", Codes: set(codes.Unavailable), By: ByClient,
		Summary: "the HTTP CONNECT proxy did not open a tunnel",
		Cause:   "The environment (HTTPS_PROXY) names a proxy for this address. The proxy was not there, asked for other credentials, or refused to connect to the target's host and port.",
		Remedy:  "Add internal hosts to NO_PROXY, or use WithNoProxy. If the proxy is meant, check its address, its credentials and that it permits CONNECT to this port; the evidence holds its HTTP status.",
		Spec:    gRFCA1, Rooms: rooms("channel"),
	})
	DialFailed = entry(Entry{
		ID: "dial.failed", Codes: set(codes.Unavailable), By: ByClient,
		Summary: "the connection could not be opened",
		Cause:   "Dialing failed in a way that has no circumstance of its own: an error of a custom dialer (WithContextDialer), no free local port or file descriptor, or an address the network does not support. The cause is kept and reachable with errors.As.",
		Remedy:  "Read the cause. \"too many open files\" asks for a higher ulimit -n, \"cannot assign requested address\" for fewer short-lived connections; a custom dialer must return a connection or an error that says why not.",
		Spec:    backoff, Rooms: rooms("channel"),
	})
)

// The transport security handshake.
var (
	TLSPlaintextPeer = entry(Entry{
		ID: "tls.plaintext-peer", Codes: set(codes.Unavailable), By: ByClient,
		Summary: "the client speaks TLS, the server does not",
		Cause:   "The client's credentials began a TLS handshake and the first bytes that came back are no TLS record. The server, or the sidecar in front of it, serves cleartext on this port.",
		Remedy:  "Connect in plaintext: WithTransportCredentials(insecure.NewCredentials()). If traffic should be encrypted, give the server Creds(credentials.NewServerTLSFromFile(...)) or use its TLS port. In nginx the listener needs ssl (listen 443 ssl; http2 on).",
		Spec:    rfc8446 + "#section-5.1", Rooms: rooms("channel"),
	})
	TLSUnknownAuthority = entry(Entry{
		ID: "tls.unknown-authority", Codes: set(codes.Unavailable), By: ByClient,
		Summary: "the server's certificate is signed by an authority this client does not trust",
		Cause:   "The certificate chain does not end at a root this client knows. The certificate is self-signed, comes from a private authority, the server does not send its intermediate certificates, or something intercepts the connection.",
		Remedy:  "Give the client the certificate of the CA: credentials.NewClientTLSFromFile(\"ca.crt\", \"\"), or RootCAs in its tls.Config. Let the server send the full chain, intermediates included (openssl s_client -connect HOST:PORT -showcerts). Minimal container images need the ca-certificates package.",
		Spec:    rfc5280 + "#section-6", Rooms: rooms("channel"),
	})
	TLSHostname = entry(Entry{
		ID: "tls.hostname", Codes: set(codes.Unavailable), By: ByClient,
		Summary: "the server's certificate is for another name",
		Cause:   "The certificate is trusted, but none of its subject alternative names is the name the client asked for. Dialing an IP address, a Kubernetes service's short name or a port-forward with a certificate for the public name does this; so does a certificate with a common name only.",
		Remedy:  "Dial a name in the certificate, or have the certificate reissued with the dialed name among its SANs. WithAuthority, or the second argument of NewClientTLSFromFile, sets the expected name when the address differs on purpose.",
		Spec:    rfc9525 + "#section-6", Rooms: rooms("channel"),
	})
	TLSExpired = entry(Entry{
		ID: "tls.expired", Codes: set(codes.Unavailable), By: ByClient,
		Summary: "the server's certificate is out of date or not yet valid",
		Cause:   "The current time lies outside the validity of a certificate in the server's chain. The certificate was not renewed, was renewed but not loaded by the running server, or this machine's clock is wrong.",
		Remedy:  "Renew the certificate, and check its dates (openssl s_client -connect HOST:PORT | openssl x509 -noout -dates) and this machine's clock. Restart the server or let it reload certificates (tls.Config.GetCertificate, cert-manager, credentials/tls/certprovider).",
		Spec:    rfc5280 + "#section-4.1.2.5", Rooms: rooms("channel"),
	})
	TLSClientCertRequired = entry(Entry{
		ID: "tls.client-cert-required", Codes: set(codes.Unavailable), By: ByClient,
		Summary: "the server requires a client certificate",
		Cause:   "The server asks for mutual TLS and this client presented no certificate. With TLS 1.3 the alert arrives only after the client believes the handshake complete, on the first read.",
		Remedy:  "Give the client a certificate that the server's CA has signed: load the key pair with tls.LoadX509KeyPair and pass credentials.NewTLS(&tls.Config{Certificates: ...}). If clients need no certificate, relax the server's tls.Config.ClientAuth (nginx: ssl_verify_client).",
		Spec:    rfc8446 + "#section-6.2", Rooms: rooms("channel"),
	})
	TLSClientCertRejected = entry(Entry{
		ID: "tls.client-cert-rejected", Codes: set(codes.Unavailable), By: ByClient,
		Summary: "the server rejected the client's certificate",
		Cause:   "The client presented a certificate and the server answered with an alert. It does not know the authority, the certificate is expired or revoked, its key usage excludes client authentication, or its name is not one the server's policy admits.",
		Remedy:  "Read the alert in the evidence. Check that the certificate is in date, has the extended key usage clientAuth and is signed by an authority in the server's tls.Config.ClientCAs; the server's log usually says more.",
		Spec:    rfc8446 + "#section-6.2", Rooms: rooms("channel"),
	})
	TLSNoALPN = entry(Entry{
		ID: "tls.no-alpn", Codes: set(codes.Unavailable), By: ByClient,
		Summary: "the server did not agree to speak HTTP/2 (ALPN h2)",
		Cause:   "The TLS handshake succeeded, but the server did not select the protocol h2. It is an HTTPS server without HTTP/2, a TLS-terminating load balancer in TCP mode or with HTTP/1.1 only, or a gRPC server that is too old to negotiate.",
		Remedy:  "Enable HTTP/2 where TLS ends: nginx \"http2 on\", AWS ALB target group protocol version GRPC, Envoy alpn_protocols [h2], a Go tls.Config with NextProtos [\"h2\"]. Check with openssl s_client -alpn h2 -connect HOST:PORT.",
		Spec:    rfc7301 + "#section-3.2", Rooms: rooms("channel"),
	})
	TLSVersion = entry(Entry{
		ID: "tls.version", Codes: set(codes.Unavailable), By: ByClient,
		Summary: "client and server have no TLS version or cipher suite in common",
		Cause:   "Each side offers a range of protocol versions and cipher suites, and the two ranges do not overlap. HTTP/2 needs TLS 1.2 or later; an old server or proxy, or a hardened configuration on one side, is the usual reason.",
		Remedy:  "Enable TLS 1.2 or 1.3 on the server. Compare MinVersion, MaxVersion and CipherSuites of both tls.Configs (nginx: ssl_protocols, ssl_ciphers). Raise the older side rather than lowering the other. The alert handshake_failure also comes from a server that has no certificate, and from a TLS 1.2 server that requires a client certificate: pass one in tls.Config.Certificates.",
		Spec:    rfc9113 + "#section-9.2", Rooms: rooms("channel"),
	})
	TLSHandshake = entry(Entry{
		ID: "tls.handshake", Codes: set(codes.Unavailable), By: ByBoth,
		Summary: "the security handshake failed",
		Cause:   "The handshake ended in a way that has no circumstance of its own: the connection broke, the time allowed ran out, the peer sent an unexpected alert, or a custom TransportCredentials returned an error. No call was sent over the connection.",
		Remedy:  "Read the cause and the alert, and check that this port speaks TLS and that its server is alive. openssl s_client -connect HOST:PORT -alpn h2 shows the same handshake from outside. On a server look for clients that speak cleartext to a TLS port; health probes and port scanners that only connect also show up here, harmlessly.",
		Spec:    rfc8446 + "#section-6", Rooms: rooms("channel", "server"),
	})
)
