// SPDX-License-Identifier: Apache-2.0

package subject

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"

	"github.com/faultline-rpc/faultline/conformance/internal/gen/conformancev1"
	"google.golang.org/protobuf/proto"
)

// parallel is how many calls run at a time.
const parallel = 8

// Call reads ClientCompatRequests from in until it ends, makes the calls that
// they describe, several at a time, and writes a ClientCompatResponse to out
// for each. Calls to the same server share a client, as they do in programs:
// what one answer breaks must not harm the calls beside it.
func Call(ctx context.Context, e Engine, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := &caller{engine: e, conns: map[string]Conn{}}
	defer c.close()
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex // guards out and first
		first error
	)
	defer wg.Wait()
	slots := make(chan struct{}, parallel)
	for {
		req := &conformancev1.ClientCompatRequest{}
		err := readDelimited(in, req)
		if err != nil {
			wg.Wait()
			if err == io.EOF {
				err = nil
			}
			mu.Lock()
			defer mu.Unlock()
			return errors.Join(err, first)
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			resp := c.respond(ctx, req)
			mu.Lock()
			defer mu.Unlock()
			if err := writeDelimited(out, resp); err != nil && first == nil {
				first = err
				cancel()
			}
		})
	}
}

// caller has a client for each server.
type caller struct {
	engine Engine
	mu     sync.Mutex
	conns  map[string]Conn // guarded by mu
}

func (c *caller) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, cc := range c.conns {
		_ = cc.Close()
	}
}

// respond makes one call. An error of ours, not of the call, means that the
// call could not be made as it was described.
func (c *caller) respond(ctx context.Context, req *conformancev1.ClientCompatRequest) *conformancev1.ClientCompatResponse {
	resp := &conformancev1.ClientCompatResponse{TestName: req.GetTestName()}
	result, err := c.call(ctx, req)
	if err != nil {
		resp.Result = &conformancev1.ClientCompatResponse_Error{Error: &conformancev1.ClientErrorResult{Message: err.Error()}}
		return resp
	}
	resp.Result = &conformancev1.ClientCompatResponse_Response{Response: result}
	return resp
}

func (c *caller) call(ctx context.Context, req *conformancev1.ClientCompatRequest) (*conformancev1.ClientResponseResult, error) {
	if want := conformancev1.ConformanceService_ServiceDesc.ServiceName; req.GetService() != want {
		return nil, fmt.Errorf("the service is %q, want %s", req.GetService(), want)
	}
	cc, err := c.conn(req)
	if err != nil {
		return nil, err
	}
	x, err := newExchange(cc, req)
	if err != nil {
		return nil, err
	}
	return x.run(ctx)
}

// conn returns the client of the server that req names.
func (c *caller) conn(req *conformancev1.ClientCompatRequest) (Conn, error) {
	target := net.JoinHostPort(req.GetHost(), strconv.FormatUint(uint64(req.GetPort()), 10))
	identity, err := proto.MarshalOptions{Deterministic: true}.Marshal(&conformancev1.ClientCompatRequest{
		Host: req.GetHost(), Port: req.GetPort(), ServerTlsCert: req.GetServerTlsCert(), ClientTlsCreds: req.GetClientTlsCreds()})
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(identity)
	key := string(sum[:])
	c.mu.Lock()
	defer c.mu.Unlock()
	if cc := c.conns[key]; cc != nil {
		return cc, nil
	}
	creds, err := clientCreds(req)
	if err != nil {
		return nil, err
	}
	cc, err := c.engine.Dial(target, creds)
	if err != nil {
		return nil, err
	}
	c.conns[key] = cc
	return cc, nil
}
