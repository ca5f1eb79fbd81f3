// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/faultline-rpc/faultline"
	"github.com/faultline-rpc/faultline/cmd/faultline/lab"
	"github.com/faultline-rpc/faultline/doctor"
)

const doctorHelp = `doctor finds out why calls to TARGET fail. It climbs from the name to the
service, one small probe for each layer, and stops where the ladder breaks:

  name        the resolver: addresses, families, the proxy of HTTPS_PROXY
  dial        a TCP or unix connection to every address
  tls         version, certificate chain, names, expiry, ALPN, client certificate
  http2       preface, SETTINGS and their acknowledgement, a PING
  grpc        one call of grpc.health.v1.Health/Check: does a gRPC answer, with
              its trailers, come back?
  health      what the server said of itself
  reflection  the services, by one call of ServerReflectionInfo (v1, v1alpha)
  method      with --method: does it exist, and what does it answer?
  watch       with --watch: who ends an idle connection and stream, and how

The deepest cause is the verdict: a circumstance of Faultline's catalogue, with
what to do about it. A server without health service or reflection is healthy;
one that says it is NOT_SERVING is not.

Where the target has several addresses, health is asked for at each of them.
Where a handshake ends without a word, the start of the other kind of
connection, cleartext or TLS, shows which is spoken. Where a PING is not
answered, a call to a name that nobody has follows: some servers read the first
request before they answer anything.

Nothing else is sent, and the calls are those of any monitoring. Only --method
can have an effect at the target: it makes the call, with an empty message or
that of --data. Where its answer is UNIMPLEMENTED and there is no reflection,
calls to names that nobody has show what is missing.

TLS is the default. Each probe takes at most --timeout, a few seconds in all
where the target is silent.

The exit status is 0 if the target is healthy, 1 if it is sick, and 2 if the
command line is wrong.

With --json the result is one object: target, healthy, verdict (id, layer,
code, summary, remedy, side, processed, message, spec), probes (name, status:
ok, note, failed or skipped, elapsed_ms, summary, evidence, finding) and
elapsed_ms.

Without TARGET, --lab starts sick and healthy peers on loopback, diagnoses each,
and compares with what it knows: the exit status is 1 on a difference.`

const doctorExample = `  faultline doctor api.example.com:443
  faultline doctor --plaintext localhost:50051
  faultline doctor --plaintext localhost:50051 --method grpc.testing.TestService/EmptyCall
  faultline doctor api.example.com:443 --watch 5m           # who cuts idle connections?
  faultline doctor api.example.com:443 --json | jq .verdict
  faultline doctor --lab`

type doctorFlags struct {
	conn                            connFlags
	asJSON, lab                     bool
	watch, keepalive                time.Duration
	method, data, compress, service string
}

func newDoctor() *cobra.Command {
	f := new(doctorFlags)
	cmd := &cobra.Command{
		Use: "doctor TARGET", Short: "Find out why calls to a target fail, layer by layer", Long: doctorHelp, Example: doctorExample,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) > 1:
				return usagef("doctor: unexpected argument %q, want one target", args[1])
			case f.lab && len(args) == 1:
				return usagef("doctor: both --lab and the target %q are given, want one of them", args[0])
			case !f.lab && len(args) == 0:
				return usagef("doctor: no target is given, want host:port (or --lab)")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt)
			defer stop()
			if f.lab {
				return f.runLab(ctx, cmd)
			}
			return f.run(ctx, cmd, args[0])
		},
	}
	fl := cmd.Flags()
	f.conn.add(cmd)
	probe, connect := fl.Lookup("timeout"), fl.Lookup("connect-timeout")
	f.conn.timeout = seconds(doctor.DefaultTimeout)
	probe.Usage, probe.DefValue = "the most that one probe may take, as `time` such as 5s, or seconds", doctor.DefaultTimeout.String()
	connect.Usage = "the same for dial, tls and http2, as `time`, if it is another"
	fl.StringVar(&f.service, "service", "", "the `name` of the service whose health is asked for; empty is the whole server")
	fl.StringVar(&f.method, "method", "", "call `package.Service/Method` too")
	fl.StringVarP(&f.data, "data", "d", "", "the `JSON` message for --method; @ reads it from standard input, @FILE from a file")
	fl.StringVar(&f.compress, "compress", "", "the compression `name` of the request for --method, such as gzip")
	fl.DurationVar(&f.watch, "watch", 0, "hold a connection and a stream for this long and tell who ends them")
	fl.DurationVar(&f.keepalive, "keepalive", 0, "send a PING this often during --watch, as clients with keepalive do")
	fl.BoolVar(&f.asJSON, "json", false, "print one JSON object, for machines")
	fl.BoolVar(&f.lab, "lab", false, "start sick and healthy peers on loopback and diagnose each")
	return cmd
}

// config reads the flags. The error is one of usage.
func (f *doctorFlags) config(target string, stdin io.Reader) (cfg doctor.Config, err error) {
	switch {
	case f.watch < 0:
		return cfg, usagef("doctor: --watch %v is negative, want a time such as 5m", f.watch)
	case f.keepalive < 0:
		return cfg, usagef("doctor: --keepalive %v is negative, want a time such as 30s", f.keepalive)
	case f.keepalive > 0 && f.watch == 0:
		return cfg, usagef("doctor: --keepalive is given without --watch, want both")
	case f.data != "" && f.method == "":
		return cfg, usagef("doctor: --data is given without --method, want both")
	case f.compress != "" && f.method == "":
		return cfg, usagef("doctor: --compress is given without --method, want both")
	case f.conn.authority != "" && f.conn.serverName != "" && f.conn.authority != f.conn.serverName:
		return cfg, usagef("doctor: --authority %s and --server-name %s differ, want one of them, or the same twice", f.conn.authority, f.conn.serverName)
	}
	agent := "faultline-doctor/" + faultline.Version
	if f.conn.userAgent != "" {
		agent = f.conn.userAgent + " " + agent
	}
	cfg = doctor.Config{Authority: f.conn.authority, UserAgent: agent, NoProxy: f.conn.noProxy, Service: f.service, Method: f.method,
		Timeout: time.Duration(f.conn.timeout), ConnectTimeout: time.Duration(f.conn.connectTimeout), MaxMessage: int(f.conn.maxMessage),
		Compress: f.compress, Watch: f.watch, Ping: f.keepalive}
	if f.method != "" {
		if err := doctor.CheckMethod(f.method); err != nil {
			return cfg, usagef("doctor: --method %v", err)
		}
	}
	if cfg.Target, err = f.conn.target(target); err != nil {
		return cfg, err
	}
	if cfg.TLS, err = f.conn.tls(); err != nil {
		return cfg, err
	}
	if cfg.Metadata, err = f.conn.metadata("--header", f.conn.headers); err != nil {
		return cfg, err
	}
	if cfg.ReflectionMetadata, err = f.conn.metadata("--reflect-header", f.conn.reflectHeaders); err != nil {
		return cfg, err
	}
	cfg.Data, err = f.message(stdin)
	return cfg, err
}

// message reads --data.
func (f *doctorFlags) message(stdin io.Reader) ([]byte, error) {
	r, done, err := openData(&f.conn, f.data, stdin)
	if err != nil {
		return nil, err
	}
	defer done()
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, usagef("doctor: --data %s cannot be read: %v", f.data, bare(err))
	}
	if len(bytes.TrimSpace(b)) > 0 {
		if err := json.Unmarshal(b, new(json.RawMessage)); err != nil {
			return nil, usagef("doctor: --data is no JSON: %v", err)
		}
	}
	return b, nil
}

func (f *doctorFlags) run(ctx context.Context, cmd *cobra.Command, target string) error {
	cfg, err := f.config(target, cmd.InOrStdin())
	if err != nil {
		return err
	}
	out, view := cmd.OutOrStdout(), (*doctorView)(nil)
	if f.asJSON {
		view = newDoctorView(cmd.ErrOrStderr()) // for the progress alone, on a terminal
		cfg.Began, cfg.Ended = view.began, func(doctor.Probe) { view.clear() }
	} else {
		view = newDoctorView(out)
		view.title(cfg)
		cfg.Began, cfg.Ended = view.began, view.ended
	}
	rep := doctor.Examine(ctx, cfg)
	if bad := "codec.marshal"; string(rep.Verdict.ID) == bad { // the data's fault, not the target's
		view.clear()
		return usagef("doctor: --data: %s", strings.TrimPrefix(rep.Verdict.Message, bad+": "))
	}
	if !rep.Healthy {
		rep.Verdict.Remedy = withHint(rep.Verdict.Remedy, f.conn.hintFor(rep.Verdict.ID, rep.Verdict.Code, rep.Verdict.Remedy))
	}
	if f.asJSON {
		err = writeJSON(out, rep)
	} else {
		view.verdict(rep)
	}
	if err == nil && !rep.Healthy {
		return errReported
	}
	return err
}

func (f *doctorFlags) runLab(ctx context.Context, cmd *cobra.Command) error {
	out := cmd.OutOrStdout()
	var rep lab.Report
	var err error
	if f.asJSON {
		rep = lab.Run(ctx, nil)
		err = writeJSON(out, rep)
	} else {
		t := newLabTable(out)
		rep = lab.Run(ctx, t.row)
		t.summary(rep)
	}
	if err == nil && !rep.OK {
		return errReported
	}
	return err
}
