// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// samples are faults that between them show every fact a fault can hold.
func samples(t *testing.T) map[string]*Fault {
	pack := func(m proto.Message) *anypb.Any {
		d, err := anypb.New(m)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	refused := &net.OpError{
		Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 50051},
		Err: &os.SyscallError{Syscall: "connect", Err: errors.New("connection refused")},
	}
	return map[string]*Fault{
		"bare": ServerDraining.New(Args{Side: Remote, Processed: No}),
		"dial": DialRefused.New(Args{
			Side: Remote, Processed: No, Message: "127.0.0.1:50051", Cause: refused,
			Evidence: &Evidence{Target: "dns:///localhost:50051", Address: "127.0.0.1:50051", Network: "tcp"},
		}).Above(PickNoReady, "pick_first in TRANSIENT_FAILURE").Above(CallRetriesExhausted, ""),
		"deadline": CallDeadline.New(Args{
			Side: Local, Message: "1s passed while waiting for response headers",
			Evidence: &Evidence{Method: "/shop.Orders/Place", Address: "10.0.0.7:443", Waiting: "response-headers", Sent: true, Limit: 5},
			Cause:    fmt.Errorf("call: %w", errors.Join(errors.New("no answer"), errors.New("peer alive"))),
		}).WithAttempts([]Attempt{
			{Peer: "10.0.0.6:443", ID: "http2.refused-stream", Code: codes.Unavailable, Processed: No, Elapsed: 1234567 * time.Nanosecond, Transparent: true},
			{ID: "dial.timeout", Code: codes.Unavailable, Processed: No, Elapsed: 200 * time.Millisecond},
		}).WithLedger(&Ledger{Budget: time.Second, Elapsed: time.Second, Phases: []Phase{{Name: PhaseResolve, Spent: 2 * time.Millisecond, Attempt: 1}, {Name: PhaseBackoff, Spent: 300 * time.Millisecond, Attempt: 2}, {Name: PhaseHeaders, Spent: 698 * time.Millisecond, Attempt: 2}},
			Peer: &Pulse{State: PulseAlive, Heard: 12 * time.Millisecond, Pinged: 13 * time.Millisecond, Answered: 12 * time.Millisecond}}),
		"status": HandlerStatus.New(Args{Side: Remote, Processed: Yes, Code: codes.NotFound, Message: "no such user", Verbatim: true}).WithDetails([]*anypb.Any{
			pack(&errdetails.RetryInfo{RetryDelay: durationpb.New(1500 * time.Millisecond)}),
			{TypeUrl: "type.example.com/shop.Unlinked", Value: []byte{8, 1}},
		}),
		"hostile": HTTP2NotHTTP2.New(Args{
			Side: Between, Processed: No, Message: "answers \"\x1b[2J\r\n\xff\u202e\"",
			Evidence: &Evidence{Sample: "SSH-2.0\r\n\x00\x1b]0;x\a", ALPN: []string{"h2", "http/1.1"}},
		}),
		"trail": HandlerUpstream.New(Args{
			Side: Remote, Processed: Yes, Code: codes.Unavailable, Message: "dial.refused: nothing listens at the address; reference 00ff", Verbatim: true,
			Evidence: &Evidence{Method: "/shop.Orders/Place", Address: "10.0.0.1:443", Reference: "00ff"},
		}).WithTrail([]Hop{orders, {Service: "shop.Hostile", ID: "new.\n", Dropped: 3, Text: "\x1b[2J"}, stock}),
		"misplaced": WireTruncated.New(Args{Side: Remote, Code: codes.DataLoss}),
	}
}

func TestGoldenLadders(t *testing.T) {
	for name, f := range samples(t) {
		golden(t, name+".txt", fmt.Appendf(nil, "%+v\n", f))
	}
}

func TestGoldenJSON(t *testing.T) {
	for name, f := range samples(t) {
		j, err := json.MarshalIndent(f, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name+".json", append(j, '\n'))
	}
}

func TestGoldenLog(t *testing.T) {
	for name, f := range samples(t) {
		var b bytes.Buffer
		h := slog.NewTextHandler(&b, &slog.HandlerOptions{ReplaceAttr: func(g []string, a slog.Attr) slog.Attr {
			if len(g) == 0 && a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}})
		slog.New(h).Error("call failed", "err", f)
		golden(t, name+".log", b.Bytes())
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if want = bytes.ReplaceAll(want, []byte("\r\n"), []byte("\n")); !bytes.Equal(got, want) {
		t.Errorf("%s differs (run with -update to accept):\n got %s\nwant %s", name, got, want)
	}
}

func TestVerbs(t *testing.T) {
	f := ServerDraining.New(Args{})
	text := "rpc error: code = Unavailable desc = server.draining: the server is shutting down and takes no new calls"
	for format, want := range map[string]string{
		"%v": text, "%s": text, "%q": `"` + text + `"`, "%.9s": "rpc error", "%120s": strings.Repeat(" ", 120-len(text)) + text, "%x": fmt.Sprintf("%x", text),
	} {
		if got := fmt.Sprintf(format, f); got != want {
			t.Errorf("%s prints %q, want %q", format, got, want)
		}
	}
}

// A ladder stays a ladder, whatever peers and chains do.
func TestLadderIsBounded(t *testing.T) {
	var tree error = errors.New("leaf")
	for range 12 {
		tree = errors.Join(tree, tree)
	}
	f := HTTP2Protocol.New(Args{Message: "x", Cause: tree})
	if n := len(causes(f.Unwrap())); n != maxCauses {
		t.Errorf("%d causes are shown, want %d", n, maxCauses)
	}
	for line := range strings.SplitSeq(fmt.Sprintf("%+v", samples(t)["hostile"]), "\n") {
		if strings.ContainsAny(line, "\x1b\r\x00\a") || !strings.HasPrefix(line, "  ") && !strings.HasPrefix(line, "rpc error") {
			t.Errorf("a peer's bytes reach the terminal: %q", line)
		}
	}
}
