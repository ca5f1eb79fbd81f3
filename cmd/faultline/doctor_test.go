// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"github.com/faultline-rpc/faultline/cmd/faultline/lab"
	"github.com/faultline-rpc/faultline/doctor"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/internal/peer"
)

var updateDoctor = flag.Bool("update-doctor", false, "write the golden pictures of the doctor")

// scripted is the address of a peer that answers each call so.
func scripted(t *testing.T, a peer.Answer) string {
	t.Helper()
	s, err := peer.Listen("127.0.0.1:0", peer.Each(a))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s.Addr()
}

var (
	doctorTimes = regexp.MustCompile(` *\d+(\.\d+)? ?(ms|µs|ns|s)\b`)
	doctorPorts = regexp.MustCompile(`127\.0\.0\.1:\d+`)
)

// TestDoctorPicture compares pictures with their golden files, times and ports
// apart.
func TestDoctorPicture(t *testing.T) {
	for name, a := range map[string]peer.Answer{
		"healthy":  peer.Full([]string{":status", "200", "content-type", "application/grpc", "server", "someone/1.0"}, peer.Message([]byte{8, 1}), []string{"grpc-status", "0"}),
		"gateway":  peer.Full([]string{":status", "502", "content-type", "text/html", "server", "nginx"}, []byte("<h1>502 Bad Gateway</h1>\x1b[2J"), nil),
		"goaway":   peer.GoAway(-2, http2.ErrCodeNo, ""),
		"terminal": peer.TrailersOnly(14, "%1B]0;owned%07 down%0AHEALTHY"),
	} {
		t.Run(name, func(t *testing.T) {
			addr := scripted(t, a)
			status, stdout, stderr := invoke(t, "doctor", "--plaintext", addr)
			if wrong := status == 0 != (name == "healthy"); wrong || stderr != "" {
				t.Errorf("status %d, stderr %q", status, stderr)
			}
			if strings.ContainsAny(stdout, "\x1b\x07") {
				t.Errorf("the picture drives a terminal: %q", stdout)
			}
			got := doctorPorts.ReplaceAllString(doctorTimes.ReplaceAllString(stdout, " TIME"), "ADDRESS")
			file := filepath.Join("testdata", "doctor-"+name+".golden")
			if *updateDoctor {
				if err := os.MkdirAll("testdata", 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// TestDoctorJSON is a verdict as machines see it.
func TestDoctorJSON(t *testing.T) {
	addr := scripted(t, peer.MissingTrailers([]byte{8, 1}))
	status, stdout, stderr := invoke(t, "doctor", "--plaintext", "--json", addr)
	var got struct {
		Target  string `json:"target"`
		Healthy bool   `json:"healthy"`
		Verdict struct {
			ID, Layer, Code, Summary, Remedy, Side, Processed, Message, Spec string
		} `json:"verdict"`
		Probes []struct {
			Name, Status, Summary string
			Elapsed               float64           `json:"elapsed_ms"`
			Evidence              map[string]string `json:"evidence"`
			Finding               map[string]string `json:"finding"`
		} `json:"probes"`
		Elapsed float64 `json:"elapsed_ms"`
	}
	dec := json.NewDecoder(strings.NewReader(stdout))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&got); err != nil {
		t.Fatalf("%v in %s", err, stdout)
	}
	v, e := got.Verdict, fault.Lookup("wire.trailers-missing")
	if status != 1 || stderr != "" || got.Healthy || got.Target != addr || v.ID != string(e.ID) || v.Layer != "wire" || v.Code != "INTERNAL" ||
		v.Summary != e.Summary || v.Remedy != e.Remedy || v.Spec != e.Spec || v.Side == "" || v.Processed != "yes" {
		t.Errorf("status %d, stderr %q, %s", status, stderr, stdout)
	}
	var names []string
	for _, p := range got.Probes {
		names = append(names, p.Name+" "+p.Status)
	}
	if want := "name ok, dial ok, http2 ok, grpc failed, health skipped, reflection skipped"; strings.Join(names, ", ") != want {
		t.Errorf("rungs %q, want %s", names, want)
	}
	if f := got.Probes[3].Finding; f["id"] != "wire.trailers-missing" {
		t.Errorf("the rung's finding is %v", f)
	}
}

func TestDoctorUsage(t *testing.T) {
	dir := t.TempDir()
	cert, key := pair(t, dir, "doctor")
	empty := filepath.Join(dir, "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	addr := scripted(t, peer.OK([]byte{8, 1}))
	for _, tc := range []struct{ args, want string }{
		{"", "doctor: no target is given, want host:port (or --lab)"},
		{"a:1 b:1", `doctor: unexpected argument "b:1", want one target`},
		{"--lab a:1", `doctor: both --lab and the target "a:1" are given, want one of them`},
		{"a:1 --timeout 0s", `doctor: invalid argument "0s" for "--timeout" flag: want a time above 0ANY (faultline doctor --help explains the flags)`},
		{"https://a:1", `doctor: the target "https://a:1" is a URL, want host:port`},
		{"a:1 --method a/b -d @$DIR/none", "doctor: --data @$DIR/none cannot be read: ANY; want a file with JSON, or @ alone for standard input"},
		{"a:1 -H grpc-x:1", `doctor: --header: the name "grpc-x" is gRPC's own, want another`},
		{"a:1 --timeout soon", `doctor: invalid argument "soon" for "--timeout" flag: ANY (faultline doctor --help explains the flags)`},
		{"a:1 --watch -1s", "doctor: --watch -1s is negative, want a time such as 5m"},
		{"a:1 --keepalive -1s", "doctor: --keepalive -1s is negative, want a time such as 30s"},
		{"a:1 --keepalive 1s", "doctor: --keepalive is given without --watch, want both"},
		{"a:1 --max-msg-size 0", `doctor: invalid argument "0" for "--max-msg-size" flag: ANY (faultline doctor --help explains the flags)`},
		{"a:1 --data {}", "doctor: --data is given without --method, want both"},
		{"a:1 --compress gzip", "doctor: --compress is given without --method, want both"},
		{"a:1 --method Foo", `doctor: --method "Foo" is no method, want package.Service/Method`},
		{"a:1 --method a.B/C -d {", "doctor: --data is no JSON: unexpected end of JSON input"},
		{"$ADDR --plaintext --json --method grpc.health.v1.Health/Check -d {\"x\":1}", "doctor: --data: the request's JSON cannot be turned into a message: ANY"},
		{"a:1 --authority x --server-name y", "doctor: --authority x and --server-name y differ, want one of them, or the same twice"},
		{"a:1 -H nonsense", `doctor: --header "nonsense" is no header, want 'name: value'`},
		{"a:1 --plaintext --insecure", "doctor: --plaintext and --insecure are given, want one of them"},
		{"a:1 --plaintext --cacert $CERT", "doctor: --plaintext and --cacert are given, want one of them"},
		{"a:1 --cacert $DIR/none", "doctor: --cacert $DIR/none cannot be read: ANY; want a PEM file with certificates"},
		{"a:1 --cacert $EMPTY", "doctor: --cacert $EMPTY holds no certificate, want a PEM file with some"},
		{"a:1 --cert $CERT", "doctor: --cert $CERT is given without --key, want both or neither"},
		{"a:1 --key $KEY", "doctor: --key $KEY is given without --cert, want both or neither"},
		{"a:1 --cert $KEY --key $CERT", "doctor: --cert $KEY and --key $CERT cannot be used: ANY"},
		{"a:1 --bogus", "doctor: unknown flag: --bogus, want one of ANY"},
	} {
		names := strings.NewReplacer("$CERT", cert, "$KEY", key, "$EMPTY", empty, "$DIR", dir, "$ADDR", addr)
		args := []string{"doctor"}
		for _, a := range strings.Fields(tc.args) {
			args = append(args, names.Replace(a))
		}
		status, stdout, stderr := invoke(t, args...)
		want := "^faultline: " + strings.ReplaceAll(regexp.QuoteMeta(names.Replace(tc.want)), "ANY", ".+") + "\n$"
		if status != 2 || stdout != "" || !regexp.MustCompile(want).MatchString(stderr) {
			t.Errorf("%s: status %d, stdout %q, stderr %q; want 2, nothing, %s", tc.args, status, stdout, stderr, want)
		}
	}
}

// TestDoctorSends has the flags arrive at the peer.
func TestDoctorSends(t *testing.T) {
	heads := make(chan peer.Frame, 16)
	s, err := peer.Listen("127.0.0.1:0", func(p *peer.Peer) error {
		if _, err := p.Handshake(); err != nil {
			return err
		}
		for {
			f, err := p.Next()
			if err != nil {
				return err
			}
			if f.Get(":method") != "" {
				heads <- f
			}
			if f.End {
				if err := peer.TrailersOnly(0, "")(p, f.Stream); err != nil {
					return err
				}
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	invoke(t, "doctor", "--plaintext", s.Addr(), "--authority", "api.example", "-H", "X-Token: secret", "-H", "x-token:two", "--timeout", "3s", "--reflect-header", "x-only: here")
	f := <-heads
	for name, want := range map[string]string{":path": "/grpc.health.v1.Health/Check", ":authority": "api.example", ":scheme": "http", "te": "trailers", "content-type": "application/grpc"} {
		if got := f.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if got := f.Values("x-token"); len(got) != 2 || got[0] != "secret" || got[1] != "two" {
		t.Errorf("x-token is %q", got)
	}
	if got := f.Get("user-agent"); !strings.HasPrefix(got, "faultline-doctor/") {
		t.Errorf("user-agent is %q", got)
	}
	if got := f.Get("grpc-timeout"); got == "" {
		t.Error("the server is told of no deadline")
	}
	if got := f.Get("x-only"); got != "" {
		t.Errorf("x-only is %q on a call that is not to reflection", got)
	}
}

// TestDoctorLab prints rows of the lab; package lab tests the diagnoses.
func TestDoctorLab(t *testing.T) {
	var out bytes.Buffer
	table := newLabTable(&out)
	table.row(lab.Result{Peer: "a", Expected: lab.Diagnosis{ID: "dial.refused", Layer: "dial", Code: "UNAVAILABLE"}, Found: lab.Diagnosis{ID: "dial.refused", Layer: "dial", Code: "UNAVAILABLE"}, OK: true, ElapsedMS: 1})
	table.row(lab.Result{Peer: "b", Expected: lab.Diagnosis{ID: "healthy", Code: "OK"}, Found: lab.Diagnosis{ID: "dial.timeout", Layer: "dial", Code: "UNAVAILABLE"}, Message: "dial.timeout: \x1b", ElapsedMS: 1})
	table.summary(lab.Report{Passed: 1, Failed: 1})
	for _, want := range []string{"peer", "1. ok    a ", "dial.refused                 UNAVAILABLE         1.00 ms", "2. FAIL  b ", "expected healthy, layer , code OK; ", `dial.timeout: \x1b`, "2 peers, 1 not diagnosed as expected FAIL"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, out.String())
		}
	}
}

// TestDoctorTerminal is the picture with color and progress.
func TestDoctorTerminal(t *testing.T) {
	var out bytes.Buffer
	v := newDoctorView(&out)
	v.live = true
	v.began("dial", "connecting")
	v.ended(doctor.Probe{Name: "dial", Status: doctor.Failed, Summary: "no"})
	if want := "\r\x1b[K  \x1b[2m…\x1b[0m dial       \x1b[2mconnecting\x1b[0m\r\x1b[K  \x1b[1;31m✗\x1b[0m dial         0.00 ms  \x1b[1;31mno\x1b[0m\n"; out.String() != want {
		t.Errorf("got %q\nwant %q", out.String(), want)
	}
}
