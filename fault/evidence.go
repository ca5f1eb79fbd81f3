// SPDX-License-Identifier: Apache-2.0

package fault

// Evidence is what was observed of a failure. Zero fields are absent. It may
// hold addresses and metadata names, never metadata values, tokens or
// payloads; a Sample is what a peer sent that was no gRPC at all.
type Evidence struct {
	Target     string   `json:"target,omitempty"`    // as the program gave it
	Address    string   `json:"address,omitempty"`   // the address tried or connected to
	Local      string   `json:"local,omitempty"`     // the own address
	Network    string   `json:"network,omitempty"`   // "tcp", "unix"
	Proxy      string   `json:"proxy,omitempty"`     // the proxy between, without credentials
	Host       string   `json:"host,omitempty"`      // the name looked up or verified
	Method     string   `json:"method,omitempty"`    // "/package.Service/Method"
	Nearest    string   `json:"nearest,omitempty"`   // a registered name like the one asked for
	Authority  string   `json:"authority,omitempty"` // :authority of the call
	Header     string   `json:"header,omitempty"`    // a metadata or header name
	Option     string   `json:"option,omitempty"`    // the option that sets the limit met
	Limit      int64    `json:"limit,omitempty"`     // the limit met
	Size       int64    `json:"size,omitempty"`      // what exceeded it
	TLSAlert   string   `json:"tls_alert,omitempty"`
	TLSVersion string   `json:"tls_version,omitempty"`
	ALPN       []string `json:"alpn,omitempty"` // protocols negotiated or offered
	HTTP2Code  string   `json:"http2_code,omitempty"`
	LastStream uint32   `json:"last_stream,omitempty"` // GOAWAY's last stream id
	Stream     uint32   `json:"stream,omitempty"`
	Debug      string   `json:"debug,omitempty"` // GOAWAY's debug data
	HTTPStatus int      `json:"http_status,omitempty"`
	HTTPServer string   `json:"http_server,omitempty"` // the server header of a non-gRPC answer
	Content    string   `json:"content_type,omitempty"`
	Encoding   string   `json:"encoding,omitempty"` // grpc-encoding
	Sample     string   `json:"sample,omitempty"`   // first bytes of what answered instead
	GRPCStatus string   `json:"grpc_status,omitempty"`
	Reference  string   `json:"reference,omitempty"` // id that finds the full text in the server's log
	Waiting    string   `json:"waiting,omitempty"`   // what was waited for when time ran out, or the connection ended
	Sent       bool     `json:"sent,omitempty"`      // the request's headers left this process
	Answered   bool     `json:"answered,omitempty"`  // response headers had arrived
	Messages   int64    `json:"messages,omitempty"`  // response messages that had arrived
}
