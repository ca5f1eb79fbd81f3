// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/faultline-rpc/faultline/cmd/faultline/demo"
)

// invoke runs the program with these arguments.
func invoke(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	status = run(t.Context(), args, &out, &errs)
	return status, out.String(), errs.String()
}

func TestBadInput(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	cert, key := pair(t, dir, "one")
	_, other := pair(t, dir, "two")
	empty, missing := file("empty.pem", ""), filepath.Join(dir, "missing.pem")
	broken := file("broken.pem", "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n")
	for _, tc := range []struct {
		args   string
		status int
		want   string // of stderr, without the program's name; a pattern
	}{
		{"frobnicate", 2, `there is no command "frobnicate", want one of call, completion, demo, describe, doctor, explain, list, serve, version (faultline --help explains them)`},
		{"serv --bogus", 2, `there is no command "serv", want one of call, completion, demo, describe, doctor, explain, list, serve, version; did you mean "serve"? (faultline --help explains them)`},
		{"-plaintext localhost:50051 list", 2, `-plaintext stands in front of the command, want the command first, such as call, list or describe, and then its flags (faultline --help explains them)`},
		{"-d x localhost:50051 a.B/C", 2, `-d stands in front of the command, want the command first, such as call, list or describe, and then its flags (faultline --help explains them)`},
		{"localhost:50051 list", 2, `there is no command "localhost:50051", want one of call, completion, demo, describe, doctor, explain, list, serve, version; the target comes behind it (faultline --help explains them)`},
		{"help frobnicate", 2, `there is no command "frobnicate", want one of call, completion, demo, describe, doctor, explain, list, serve, version (faultline --help explains them)`},
		{"help demo serve", 2, `help: unexpected argument "serve", want one command`},
		{"--bogus", 2, `faultline: unknown flag: --bogus, want one of --help, --version (faultline --help explains them)`},
		{"demo --jsn", 2, `demo: unknown flag: --jsn, want one of --help, --json (faultline demo --help explains them)`},
		{"demo -x", 2, `demo: unknown shorthand flag: 'x' in -x, want one of --help, --json (faultline demo --help explains them)`},
		{"demo --json=perhaps", 2, `demo: invalid argument "perhaps" for "--json" flag: strconv.ParseBool: parsing "perhaps": invalid syntax (faultline demo --help explains the flags)`},
		{"demo everything", 2, `demo: unexpected argument "everything", want flags only (faultline demo --help explains them)`},
		{"version 2", 2, `version: unexpected argument "2", want flags only (faultline version --help explains them)`},
		{"serve here", 2, `serve: unexpected argument "here", want flags only (faultline serve --help explains them)`},
		{"serve --port 1", 2, `serve: unknown flag: --port, want one of --addr, --cert, --help, --key (faultline serve --help explains them)`},
		{"serve --addr", 2, `serve: flag needs an argument: --addr (faultline serve --help explains the flags)`},
		{"serve --addr 50051", 2, `serve: --addr "50051" is no address: missing port in address, want host:port, such as 127.0.0.1:50051 or :50051`},
		{"serve --addr 127.0.0.1:http2", 2, `serve: --addr "127.0.0.1:http2": the port "http2" is no number from 0 to 65535, want host:port, such as 127.0.0.1:50051 or :50051`},
		{"serve --addr :70000", 2, `serve: --addr ":70000": the port "70000" is no number from 0 to 65535, want host:port, such as 127.0.0.1:50051 or :50051`},
		{"serve --cert $CERT", 2, `serve: --cert $CERT is given without --key, want both or neither`},
		{"serve --key $KEY", 2, `serve: --key $KEY is given without --cert, want both or neither`},
		{"serve --cert $MISSING --key $KEY", 1, `serve: --cert $MISSING cannot be read: ANY; want a PEM file with a certificate`},
		{"serve --cert $CERT --key $MISSING", 1, `serve: --key $MISSING cannot be read: ANY; want a PEM file with a private key`},
		{"serve --cert $EMPTY --key $KEY", 1, `serve: --cert $EMPTY holds no PEM block, want a PEM file with a certificate`},
		{"serve --cert $KEY --key $CERT", 1, `serve: --cert $KEY holds a PEM block "PRIVATE KEY", want a PEM file with a certificate`},
		{"serve --cert $CERT --key $CERT", 1, `serve: --key $CERT holds a PEM block "CERTIFICATE", want a PEM file with a private key`},
		{"serve --cert $BROKEN --key $KEY", 1, `serve: --cert $BROKEN and --key $KEY do not go together: ANY`},
		{"serve --cert $CERT --key $OTHER", 1, `serve: --cert $CERT and --key $OTHER do not go together: tls: private key does not match public key`},
		{"serve --addr 192.0.2.1:0", 1, `serve: cannot listen on --addr 192.0.2.1:0: ANY; want a free port of this machine`},
	} {
		t.Run(tc.args, func(t *testing.T) {
			names := strings.NewReplacer("$CERT", cert, "$KEY", key, "$OTHER", other, "$EMPTY", empty, "$MISSING", missing, "$BROKEN", broken)
			args := strings.Fields(tc.args)
			for i := range args {
				args[i] = names.Replace(args[i])
			}
			status, stdout, stderr := invoke(t, args...)
			want := "^faultline: " + strings.ReplaceAll(regexp.QuoteMeta(names.Replace(tc.want)), "ANY", ".+") + "\n$"
			if status != tc.status || stdout != "" || !regexp.MustCompile(want).MatchString(stderr) {
				t.Errorf("status %d, stdout %q, stderr %q; want %d, nothing, %s", status, stdout, stderr, tc.status, want)
			}
		})
	}
}

func TestHelp(t *testing.T) {
	for _, tc := range []struct {
		args string
		want []string
	}{
		{"", []string{"Usage:", "faultline demo", "faultline serve", "Available Commands:", "version"}},
		{"--help", []string{"faultline demo"}},
		{"help", []string{"faultline demo"}},
		{"help help", []string{"help explains a command"}},
		{"help demo", []string{"--json", "exit status", "processed"}},
		{"call --help", []string{"faultline call --plaintext localhost:50051 grpc.testing.TestService/UnaryCall", "-d @ ", "64 plus the number", "--cacert file", `{"error":{"code":"UNAVAILABLE"`, "-plaintext"}},
		{"list --help", []string{"faultline list api.example.com:443", "--proto file", "v1alpha"}},
		{"describe --help", []string{"--msg-template", "--import-path folder"}},
		{"explain --help", []string{"faultline explain tls.plaintext-peer", "grpc-dotnet", "candidates"}},
		{"completion --help", []string{"source <(faultline completion bash)"}},
		{"demo --help", []string{"https://grpc.io/docs/guides/error/", "Examples:", "--json"}},
		{"serve -h", []string{"grpcurl -plaintext 127.0.0.1:50051 list", "--addr address", `(default "127.0.0.1:50051")`, "--cert file", "--key file", "SIGTERM"}},
		{"version --help", []string{"faultline version"}},
	} {
		status, stdout, stderr := invoke(t, strings.Fields(tc.args)...)
		if status != 0 || stderr != "" {
			t.Errorf("%q: status %d, stderr %q", tc.args, status, stderr)
		}
		for _, want := range tc.want {
			if !strings.Contains(stdout, want) {
				t.Errorf("faultline %s does not say %q:\n%s", tc.args, want, stdout)
			}
		}
	}
}

func TestVersion(t *testing.T) {
	for _, args := range []string{"version", "--version", "-v"} {
		status, stdout, stderr := invoke(t, args)
		if status != 0 || stderr != "" || !regexp.MustCompile(`^faultline \d+\.\d+\.\d+\S* \(go\S+, \w+/\w+\)\n$`).MatchString(stdout) {
			t.Errorf("%s: status %d, stdout %q, stderr %q", args, status, stdout, stderr)
		}
	}
}

// TestDemoFails has no time for any call.
func TestDemoFails(t *testing.T) {
	for _, args := range [][]string{{"demo"}, {"demo", "--json"}} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		var out, errs bytes.Buffer
		if status := run(ctx, args, &out, &errs); status != 1 || errs.Len() > 0 || !strings.Contains(out.String(), "operation was canceled") {
			t.Errorf("%q: status %d, stderr %q, stdout %s; want 1, nothing, a failing table", args, status, errs.String(), out.String())
		}
	}
}

// TestDemoJSON is the demo as machines see it; package demo tests the table.
func TestDemoJSON(t *testing.T) {
	status, stdout, stderr := invoke(t, "demo", "--json")
	dec := json.NewDecoder(strings.NewReader(stdout))
	dec.DisallowUnknownFields()
	var rep demo.Report
	if err := dec.Decode(&rep); err != nil {
		t.Fatal(err)
	}
	if status != 0 || stderr != "" || !rep.OK || rep.Failed != 0 || len(rep.Kinds) != 4 || len(rep.Rows) != 16 || rep.Server == "" {
		t.Errorf("status %d, stderr %q, report %s", status, stderr, stdout)
	}
	n := len(rep.Kinds)
	for _, r := range rep.Rows {
		for _, c := range r.Cases {
			n++
			if !c.OK || c.Error != "" || c.Received.Outcome != c.Expected || c.Received.Message == "" || c.Did == "" {
				t.Errorf("row %d: %+v", r.Number, c)
			}
		}
	}
	if n != rep.Passed {
		t.Errorf("passed %d, there are %d", rep.Passed, n)
	}
}
