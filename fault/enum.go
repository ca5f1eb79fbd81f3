// SPDX-License-Identifier: Apache-2.0

package fault

import "fmt"

// Layer is the part of the system in which a circumstance arises; it is the
// prefix of the circumstance's id.
type Layer uint8

// The layers, from the name down to the application and what guards it.
const (
	LayerUnknown Layer = iota
	LayerResolve       // turning the target's name into addresses
	LayerPick          // choosing a connection
	LayerDial          // opening a socket, directly or through a proxy
	LayerTLS           // the transport security handshake
	LayerHTTP2         // the connection and its streams (RFC 9113)
	LayerWire          // gRPC's use of a stream: headers, framing, trailers
	LayerCodec         // bytes to messages and back
	LayerCall          // the client's call: deadline, cancellation, credentials
	LayerServer        // the server as a whole: draining, overload, age
	LayerHandler       // the application's handler
	LayerPolicy        // what refuses a call before its handler
)

var layerNames = [...]string{"unknown", "resolve", "pick", "dial", "tls", "http2", "wire", "codec", "call", "server", "handler", "policy"}

// String returns the layer's name as ids spell it, such as "http2".
func (l Layer) String() string { return name(layerNames[:], int(l)) }

// MarshalText writes the layer's name.
func (l Layer) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// Side says who decided or did what went wrong.
type Side uint8

// The sides. Between means that what answered, or fell silent, is a proxy or
// the network and not the gRPC peer itself.
const (
	SideUnknown Side = iota
	Local
	Remote
	Between
)

var sideNames = [...]string{"unknown", "local", "remote", "between"}

// String returns "local", "remote" or "between".
func (s Side) String() string { return name(sideNames[:], int(s)) }

// MarshalText writes the side's name.
func (s Side) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Processed says whether a handler may have run for the attempt. The zero
// value is Maybe: a fault never claims No without proof.
type Processed uint8

const (
	// Maybe means that nobody on this side can know.
	Maybe Processed = iota
	// No means proof that no handler ran: it is safe to send the call again.
	No
	// Yes means proof that a handler ran.
	Yes
)

var processedNames = [...]string{"maybe", "no", "yes"}

// String returns "maybe", "no" or "yes".
func (p Processed) String() string { return name(processedNames[:], int(p)) }

// MarshalText writes the value's name.
func (p Processed) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// Who is the set of roles that may raise a circumstance.
type Who uint8

// The roles.
const (
	ByClient Who = 1 << iota
	ByServer
	ByBoth = ByClient | ByServer
)

// String returns "client", "server" or "client and server".
func (w Who) String() string {
	switch w {
	case ByClient:
		return "client"
	case ByServer:
		return "server"
	case ByBoth:
		return "client and server"
	}
	return fmt.Sprintf("who(%d)", uint8(w))
}

func name(names []string, i int) string {
	if i < len(names) {
		return names[i]
	}
	return fmt.Sprintf("invalid(%d)", i)
}
