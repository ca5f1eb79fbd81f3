// SPDX-License-Identifier: Apache-2.0

package fault

// remedies say what to do about a deadline that expired, by the phase that
// took most of the time.
var remedies = map[string]string{
	PhaseResolve:        "The name was not resolved in time: look at the name servers and at the target's spelling (faultline doctor times the look-up), before giving the call more time.",
	PhaseConnect:        "No connection came about in time; nothing was sent. Silence on the way to an address is mostly a firewall, a security group or a wrong address: try it with faultline doctor. If connecting just takes that long, call Connect at start-up or give the first call more time (context.WithTimeout).",
	PhaseHandshake:      "The server accepted the connection and did not finish the TLS handshake in time; nothing was sent. It is overloaded or stuck, or what listens is no TLS server: try openssl s_client -connect HOST:PORT, or faultline doctor.",
	PhaseSettings:       "The server accepted the connection and sent no HTTP/2 SETTINGS in time; the call was not sent. The process is frozen or overloaded, or what listens there does not speak HTTP/2: try faultline doctor.",
	PhaseConnectBackoff: "Connecting failed, and the call (wait-for-ready) waited for the next try: the latest failure is in the rungs, remedy that. Calls without WaitForReady fail at once instead.",
	PhasePick:           "The balancing policy gave the call no connection in time, though there may be some: look at the server's health (an unhealthy one gets no calls) and at the policy of the service config.",
	PhaseCredentials:    "The per-call credentials took too long to deliver their metadata: look at the token endpoint's latency, and cache tokens until shortly before they expire.",
	PhaseQuota:          "All streams that the server allows on a connection (MAX_CONCURRENT_STREAMS) were in use; the call was not sent. Look for streams that are never ended or canceled, spread calls over several connections, or raise the server's limit (MaxConcurrentStreams; nginx: http2_max_concurrent_streams).",
	PhaseSend:           "The server did not take the request in time: its handler does not receive, or the link is slow for a message of this size. Look at what the handler does before it receives, and give large requests more time (context.WithTimeout).",
	PhaseHeaders:        "The server did not answer in time: look at its latency and load, and at what it waits for in turn (its own calls, a database, a lock). Otherwise give the call more time (context.WithTimeout), and remember that a server inherits the caller's remaining budget.",
	PhaseMessage:        "The server began to answer and did not go on in time: look at what its handler waits for between messages. A deadline covers a stream as a whole: give long ones more time, or none (context.WithCancel) and a keepalive.",
	PhaseBackoff:        "Earlier attempts failed and the deadline left no time for another: remedy what the attempts say. Otherwise shorten the retry policy's back-off, or give the call more time (context.WithTimeout).",
	PhaseHedges:         "None of the hedged attempts was answered in time: the servers are slow all together. Look at their latency and load, and at what they wait for in turn; otherwise give the call more time (context.WithTimeout).",
	PhaseEarlier:        "Earlier attempts used the time up: remedy what they say.",
}

const (
	remedyAlive  = "The server is alive, its connection works, and the handler is slow. "
	remedySilent = "The server did not answer a PING either: its process is frozen, its machine is down, or the network drops what is sent. Check that the machine can be reached and that nothing on the path (firewall, NAT, load balancer) forgets idle connections. WithKeepaliveParams finds dead connections and replaces them; more time would not help."
)

// DeadlineRemedy is the advice for a call.deadline, by the phase that took most
// of the time and by what is known of the server's life. It is empty for phases
// that no client's call passes.
func DeadlineRemedy(phase string, peer PulseState) string {
	text := remedies[phase]
	switch phase {
	case PhaseSend, PhaseHeaders, PhaseMessage, PhaseQuota, PhaseHedges:
		if peer == PulseSilent {
			return remedySilent
		}
	}
	if peer == PulseAlive && (phase == PhaseHeaders || phase == PhaseMessage) {
		return remedyAlive + text
	}
	return text
}
