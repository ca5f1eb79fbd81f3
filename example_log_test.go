// SPDX-License-Identifier: Apache-2.0

package faultline_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"

	"google.golang.org/grpc/test/bufconn"

	"github.com/faultline-rpc/faultline"
	"github.com/faultline-rpc/faultline/codes"
	"github.com/faultline-rpc/faultline/status"
)

// stable writes lines to w without what differs from run to run.
func stable(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) > 0 || slices.Contains([]string{slog.TimeKey, slog.MessageKey, "peer", "elapsed", "stream"}, a.Key) {
			return slog.Attr{}
		}
		return a
	}}))
}

// One option on each side has it log a line for each call, with what the two
// knew of it.
func Example_log() {
	lis := bufconn.Listen(1 << 16)
	var server, client bytes.Buffer
	s := faultline.NewServer(faultline.Logger(stable(&server)))
	s.RegisterService(&usersDesc, &users{get: func(_ context.Context, id string) (string, error) {
		if id != "1" {
			return "", status.Errorf(codes.NotFound, "user %s not found", id)
		}
		return "Ann", nil
	}})
	go func() { _ = s.Serve(lis) }()
	cc := dialTo(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }, faultline.WithLogger(stable(&client)))

	for _, id := range []string{"1", "2"} {
		_, _ = (&usersClient{cc}).GetUser(context.Background(), id)
	}
	fmt.Print(client.String()) // each line is there when its call returns
	_ = cc.Close()
	s.GracefulStop() // a server's comes a moment after the answer, in which the next call may end
	lines := strings.SplitAfter(server.String(), "\n")
	slices.Sort(lines)
	for _, line := range lines {
		if strings.Contains(line, "method=") { // there is one for the connection, too
			fmt.Print(line)
		}
	}
	// Output:
	// level=DEBUG role=client method=/shop.Users/GetUser code=OK attempts=1 state=trailers received=1
	// level=INFO role=client method=/shop.Users/GetUser code=NOT_FOUND id=handler.status layer=handler side=remote processed=yes attempts=1 state=trailers received=0
	// level=DEBUG role=server method=/shop.Users/GetUser code=OK state=trailers received=1 sent=1
	// level=INFO role=server method=/shop.Users/GetUser code=NOT_FOUND id=handler.status layer=handler side=local processed=yes state=trailers received=1 sent=0
}
