// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/faultline-rpc/faultline/codes"
	"github.com/faultline-rpc/faultline/event"
	"github.com/faultline-rpc/faultline/fault"
)

func TestLevels(t *testing.T) {
	for _, tt := range []struct {
		role event.Role
		code codes.Code
		Failure
		want slog.Level
	}{
		{event.Client, codes.OK, Failure{}, slog.LevelDebug},
		{event.Server, codes.OK, Failure{}, slog.LevelDebug},
		{event.Client, codes.NotFound, Failure{Layer: fault.LayerHandler, Side: fault.Remote}, slog.LevelInfo},
		{event.Server, codes.NotFound, Failure{Layer: fault.LayerHandler, Side: fault.Local}, slog.LevelInfo},
		{event.Server, codes.Unauthenticated, Failure{Layer: fault.LayerPolicy, Side: fault.Local}, slog.LevelInfo},
		{event.Client, codes.Canceled, Failure{Layer: fault.LayerCall, Side: fault.Local}, slog.LevelInfo},
		{event.Server, codes.Canceled, Failure{Layer: fault.LayerHandler, Side: fault.Local}, slog.LevelInfo},
		{event.Client, codes.Canceled, Failure{Layer: fault.LayerHTTP2, Side: fault.Remote}, slog.LevelWarn}, // nobody here canceled
		{event.Client, codes.Unauthenticated, Failure{Layer: fault.LayerCall, Side: fault.Local}, slog.LevelWarn},
		{event.Client, codes.PermissionDenied, Failure{Layer: fault.LayerWire, Side: fault.Between}, slog.LevelWarn},
		{event.Client, codes.Unavailable, Failure{Layer: fault.LayerDial, Side: fault.Remote}, slog.LevelWarn},
		{event.Client, codes.Internal, Failure{Layer: fault.LayerHandler, Side: fault.Remote}, slog.LevelWarn}, // the server's log has the error
		{event.Server, codes.Unavailable, Failure{Layer: fault.LayerHandler, Side: fault.Local}, slog.LevelWarn},
		{event.Server, codes.DeadlineExceeded, Failure{Layer: fault.LayerHandler, Side: fault.Local}, slog.LevelWarn},
		{event.Server, codes.Internal, Failure{Layer: fault.LayerWire, Side: fault.Remote}, slog.LevelWarn}, // the client's doing
		{event.Server, codes.Internal, Failure{Layer: fault.LayerHandler, Side: fault.Local}, slog.LevelError},
		{event.Server, codes.Unknown, Failure{Layer: fault.LayerHandler, Side: fault.Local}, slog.LevelError},
		{event.Server, codes.DataLoss, Failure{Layer: fault.LayerHandler, Side: fault.Local}, slog.LevelError},
	} {
		if got := (&Call{Role: tt.role, Code: tt.code, Failure: tt.Failure}).level(); got != tt.want {
			t.Errorf("%s, %v, %+v: %v, want %v", tt.role, tt.code, tt.Failure, got, tt.want)
		}
	}
}

// TestJSON is the line as programs read it: a name is there once, and what
// stands beside the error is not in it as well.
func TestJSON(t *testing.T) {
	f := fault.HTTP2RSTOther.New(fault.Args{Side: fault.Remote, Processed: fault.Maybe, Code: codes.Internal, Cause: errors.New("reset"), Message: "reset it",
		Evidence: &fault.Evidence{Address: "10.0.0.7:443", Local: "10.0.0.1:9", Method: "/s/M", Stream: 3, Sent: true, HTTP2Code: "INTERNAL_ERROR"}}).
		WithLedger(&fault.Ledger{Budget: time.Second, Elapsed: 2 * time.Millisecond, Phases: []fault.Phase{{Name: fault.PhaseConnect, Spent: 2 * time.Millisecond}}})
	c := Call{Role: event.Client, Method: "/s/M", Peer: "10.0.0.7:443", Code: f.Code(), Failure: Of(f), Attempts: 2, Stream: 3, State: Headers,
		Elapsed: 2 * time.Millisecond, Timed: true, Budget: time.Second, Err: f}
	for _, tt := range []struct {
		err  error
		want string
	}{
		{f, `{"cause":"reset","evidence":{"http2_code":"INTERNAL_ERROR","local":"10.0.0.1:9"},"ledger":{"connect":2000000},"message":"http2.rst-other: reset it"}`},
		{fmt.Errorf("wrapped: %w", f), `"wrapped: ` + f.Error() + `"`},
		{errors.New("plain"), `"plain"`},
	} {
		c.Err = tt.err
		var b bytes.Buffer
		c.Log(context.Background(), slog.New(slog.NewJSONHandler(&b, nil)))
		var line map[string]json.RawMessage
		if err := json.Unmarshal(b.Bytes(), &line); err != nil {
			t.Fatal(err, b.String())
		}
		var got any
		_ = json.Unmarshal(line["error"], &got) // it is part of what parsed
		sorted, _ := json.Marshal(got)
		if string(sorted) != tt.want {
			t.Errorf("error is %s, want %s", sorted, tt.want)
		}
		for name, want := range map[string]string{"level": `"WARN"`, "msg": `"finished call"`, "role": `"client"`, "method": `"/s/M"`, "peer": `"10.0.0.7:443"`,
			"code": `"INTERNAL"`, "id": `"http2.rst-other"`, "layer": `"http2"`, "side": `"remote"`, "processed": `"maybe"`, "attempts": "2", "stream": "3",
			"state": `"headers"`, "received": "0", "elapsed": "2000000", "budget": "1000000000", "left": "998000000"} {
			if string(line[name]) != want {
				t.Errorf("%s is %s, want %s", name, line[name], want)
			}
			delete(line, name)
		}
		if delete(line, "time"); len(line) != 1 {
			t.Errorf("there is more: %v", line)
		}
	}
}

// TestQuiet: a level that is not wanted costs the question alone.
func TestQuiet(t *testing.T) {
	l := slog.New(slog.NewTextHandler(new(bytes.Buffer), nil))
	c := Call{Role: event.Client, Method: "/s/M", Code: codes.OK}
	if n := testing.AllocsPerRun(100, func() {
		if Wanted(context.Background(), l) {
			t.Error("successes are wanted at Info")
		}
		c.Log(context.Background(), l)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
