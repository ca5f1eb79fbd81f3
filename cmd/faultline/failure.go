// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"

	"github.com/faultline-rpc/faultline/codes"
	"github.com/faultline-rpc/faultline/fault"
)

// exitCall is the exit status of a call that failed with code 0, were there
// such a thing: the status is this plus the code's number.
const exitCall = 64

// exitError ends the program with a status; everything has been said.
type exitError struct{ status int }

// Error is for the case that somebody prints it all the same.
func (e *exitError) Error() string { return fmt.Sprintf("exit status %d", e.status) }

// failed reports a failure: the ladder and a hint to people, or one line of
// JSON, and returns what ends the program.
func failed(f *fault.Fault, hint string, asJSON bool, stdout, stderr io.Writer) error {
	if asJSON {
		line, err := failureJSON(f, hint)
		if err != nil {
			return err
		}
		fmt.Fprintf(stdout, "%s\n", line)
		return exitOf(f)
	}
	ladder := fmt.Sprintf("%+v\n", f)
	if hint != "" {
		ladder += fmt.Sprintf("  %-12s  %s\n", "hint", hint)
	}
	if w := terminalWidth(stderr); w > 0 {
		ladder = fold(ladder, w)
	}
	fmt.Fprint(stderr, ladder)
	return exitOf(f)
}

// exitOf is the exit status of a failed call. A number that is no code counts
// as UNKNOWN: an exit status has eight bits.
func exitOf(f *fault.Fault) *exitError { return &exitError{exitCall + int(codes.Known(f.Code()))} }

// withHint is a remedy for programs, and what it comes to on a command line.
func withHint(remedy, hint string) string {
	if hint == "" {
		return remedy
	}
	return remedy + " With faultline: " + hint + "."
}

// failureJSON is {"error": {...}} in one line, with all of its members even if
// they are empty.
func failureJSON(f *fault.Fault, hint string) ([]byte, error) {
	b, err := json.Marshal(f.WithRemedy(withHint(f.Remedy(), hint)))
	if err != nil {
		return nil, err
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(b, &all); err != nil {
		return nil, err
	}
	if c := codes.Known(f.Code()); c != f.Code() {
		all["code"] = json.RawMessage(strconv.Quote(codes.Name(c)))
	}
	member := func(name, empty string) json.RawMessage {
		if v, ok := all[name]; ok {
			return v
		}
		return json.RawMessage(empty)
	}
	type failure struct {
		Code      json.RawMessage `json:"code"`
		ID        json.RawMessage `json:"id"`
		Layer     json.RawMessage `json:"layer"`
		Side      json.RawMessage `json:"side"`
		Processed json.RawMessage `json:"processed"`
		Message   json.RawMessage `json:"message"`
		Remedy    json.RawMessage `json:"remedy"`
		Details   json.RawMessage `json:"details"`
		Evidence  json.RawMessage `json:"evidence"`
		Ledger    json.RawMessage `json:"ledger"`
		Trail     json.RawMessage `json:"trail"`
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	err = enc.Encode(map[string]failure{"error": {
		member("code", `""`), member("id", `""`), member("layer", `""`), member("side", `""`), member("processed", `""`),
		member("message", `""`), member("remedy", `""`), member("details", "[]"), member("evidence", "{}"), member("ledger", "{}"), member("trail", "[]"),
	}})
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), err
}

// hint says which flag would help, as far as one would.
func (f *connFlags) hint(failure *fault.Fault) string {
	if failure.Evidence().HTTPStatus == 400 && f.asked.Load() {
		return f.hintFor("tls.client-cert-required", failure.Code(), "")
	}
	return f.hintFor(failure.ID(), failure.Code(), failure.Remedy())
}

func (f *connFlags) hintFor(id fault.ID, code codes.Code, remedy string) string {
	switch id {
	case "tls.plaintext-peer":
		return "the server speaks plaintext: add --plaintext"
	case "http2.tls-peer":
		return "the server speaks TLS: drop --plaintext"
	case "http2.http1-peer":
		return "the server speaks HTTP/1 on this port, perhaps REST or metrics: give the port of gRPC"
	case "tls.unknown-authority":
		return "trust its authority with --cacert FILE, or do not verify with --insecure"
	case "tls.hostname":
		return "name the server as its certificate does: --server-name HOST, or --authority HOST"
	case "tls.expired":
		return "--insecure goes on without verification, to look further"
	case "tls.client-cert-required":
		if f.cert != "" {
			return "give another client certificate: --cert FILE --key FILE"
		}
		return "give a client certificate: --cert FILE --key FILE"
	case "tls.client-cert-rejected":
		return "give another client certificate: --cert FILE --key FILE"
	case "codec.too-large":
		return "if the limit is this side's: --max-msg-size takes more"
	case "call.deadline":
		switch {
		case remedy == fault.DeadlineRemedy(fault.PhaseHeaders, fault.PulseSilent): // more would not help
			return ""
		case f.verb == "doctor":
			return "--timeout gives the probe more time"
		case f.timeout > 0:
			return "--timeout gives more time; -v shows where it goes"
		}
		return "--timeout gives more than the default of 30s; -v shows where it goes"
	case "dial.proxy":
		return "--no-proxy connects without the proxy"
	case "dial.timeout", "dial.refused", "resolve.not-found":
		if f.verb == "doctor" {
			return ""
		}
		return "faultline doctor looks at each layer on the way"
	case "wire.authority":
		return "--authority takes a host, or host:port"
	case "call.cancelled":
		return ""
	}
	if code == codes.Unauthenticated {
		return "send credentials: -H 'authorization: Bearer TOKEN'"
	}
	return ""
}
