// SPDX-License-Identifier: Apache-2.0

package h2spec

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
)

// Baseline serves HTTP/2 in cleartext with net/http on a free port of
// loopback: what the suite says of a server that everyone knows.
func Baseline() (Serving, error) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return Serving{}, fmt.Errorf("h2spec: no port to listen on: %w", err)
	}
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	srv := &http.Server{
		Protocols: &protocols,
		ErrorLog:  log.New(io.Discard, "", 0),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			// Reading the request to its end makes net/http compare its length
			// with content-length before it answers.
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				panic(http.ErrAbortHandler)
			}
			_, _ = io.WriteString(w, "a body for the flow-control cases\n")
		}),
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(lis)
	}()
	return Serving{Addr: lis.Addr().String(), Stop: func() {
		_ = srv.Close()
		<-done
	}}, nil
}
