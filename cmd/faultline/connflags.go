// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"

	"github.com/faultline-rpc/faultline"
	"github.com/faultline-rpc/faultline/event"
)

// defaultTime is what reflection and calls without streams get if no timeout
// is given.
const defaultTime = 30 * time.Second

// defaultConnectTime is gRPC's minimum for an attempt to connect
// (https://github.com/grpc/grpc/blob/master/doc/connection-backoff.md).
const defaultConnectTime = 20 * time.Second

// connFlags say how to reach a server and what to send with each call. They
// are those of grpcurl wherever it has one for the purpose.
type connFlags struct {
	verb                                     string
	plaintext, insecure, unix, noProxy       bool
	cacert, cert, key, authority, serverName string
	userAgent                                string
	headers, rpcHeaders, reflectHeaders      []string
	expand                                   bool
	timeout, connectTimeout, keepalive       seconds
	maxMessage                               size
	asked                                    atomic.Bool // a server asked for a client certificate
}

// aliases are the names that grpcurl has for a flag.
var aliases = map[string]string{"servername": "server-name", "max-time": "timeout", "max-msg-sz": "max-msg-size", "rpc-headers": "rpc-header", "reflect-headers": "reflect-header"}

func (f *connFlags) add(cmd *cobra.Command) {
	f.verb = cmd.Name()
	f.maxMessage = 4 << 20
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if to, ok := aliases[name]; ok {
			name = to
		}
		return pflag.NormalizedName(name)
	})
	fl.BoolVar(&f.plaintext, "plaintext", false, "speak cleartext HTTP/2 instead of TLS")
	fl.BoolVar(&f.insecure, "insecure", false, "do not verify the server's certificate (TLS all the same)")
	fl.StringVar(&f.cacert, "cacert", "", "the PEM `file` with the authorities to trust instead of the system's")
	fl.StringVar(&f.cert, "cert", "", "the PEM `file` with the client's certificate chain; needs --key")
	fl.StringVar(&f.key, "key", "", "the PEM `file` with the certificate's private key; needs --cert")
	fl.StringVar(&f.authority, "authority", "", "the `host` to send as :authority, and to verify the certificate for")
	fl.StringVar(&f.serverName, "server-name", "", "the `host` to verify the certificate for, and to ask for (SNI)")
	fl.BoolVar(&f.unix, "unix", false, "TARGET is the path of a unix socket")
	fl.BoolVar(&f.noProxy, "no-proxy", false, "ignore HTTPS_PROXY")
	fl.StringVar(&f.userAgent, "user-agent", "", "the `text` to put before the user-agent")
	fl.StringArrayVarP(&f.headers, "header", "H", nil, "metadata to send with every call, as `'name: value'`; may be repeated; values of -bin names are base64")
	fl.StringArrayVar(&f.reflectHeaders, "reflect-header", nil, "metadata, as `'name: value'`, to send to reflection only")
	fl.BoolVar(&f.expand, "expand-headers", false, "replace ${NAME} in metadata by the environment's variable")
	fl.Var(&f.timeout, "timeout", "the most that everything may take, as `time` such as 5s, or seconds (default: 30s for reflection and for calls without streams)")
	fl.Var(&f.connectTimeout, "connect-timeout", "the most that one attempt to connect may take, as `time` such as 5s, or seconds (default: 20s, or less if --timeout is)")
	fl.Var(&f.maxMessage, "max-msg-size", "the largest message of the answer accepted, in `bytes`; KiB, MiB and GiB may follow")
}

// addRPC adds what calls to the method alone have.
func (f *connFlags) addRPC(cmd *cobra.Command) {
	cmd.Flags().Var(&f.keepalive, "keepalive-time", "send a PING when the connection was quiet for this `time`, at least 10s, and end it if none comes back")
	cmd.Flags().StringArrayVar(&f.rpcHeaders, "rpc-header", nil, "metadata, as `'name: value'`, to send to the method only")
}

func (f *connFlags) usagef(format string, args ...any) error {
	return usagef("%s: %s", f.verb, fmt.Sprintf(format, args...))
}

// target checks what no resolver could make sense of.
func (f *connFlags) target(text string) (string, error) {
	switch {
	case text == "":
		return "", f.usagef("the target is empty, want host:port")
	case strings.HasPrefix(text, "http://"):
		return "", f.usagef("the target %q is a URL, want host:port (with --plaintext)", text)
	case strings.HasPrefix(text, "https://"):
		return "", f.usagef("the target %q is a URL, want host:port", text)
	case f.unix && !strings.HasPrefix(text, "unix:"):
		return "unix:" + text, nil
	}
	return text, nil
}

// dial makes a client. Nothing is contacted yet.
func (f *connFlags) dial(text string, sink event.Sink) (*faultline.ClientConn, error) {
	target, err := f.target(text)
	if err != nil {
		return nil, err
	}
	creds, err := f.creds()
	if err != nil {
		return nil, err
	}
	agent := "faultline/" + faultline.Version
	if f.userAgent != "" {
		agent = f.userAgent + " " + agent
	}
	connect := grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: f.connectLimit()}
	connect.Backoff.BaseDelay = min(connect.Backoff.BaseDelay, connect.MinConnectTimeout/2) // an attempt may take that, too
	opts := []faultline.DialOption{
		faultline.WithTransportCredentials(creds), faultline.WithUserAgent(agent),
		faultline.WithConnectParams(connect),
	}
	if f.authority != "" {
		opts = append(opts, faultline.WithAuthority(f.authority))
	}
	if f.keepalive > 0 {
		opts = append(opts, faultline.WithKeepaliveParams(keepalive.ClientParameters{Time: time.Duration(f.keepalive), Timeout: time.Duration(f.keepalive)}))
	}
	if f.noProxy {
		opts = append(opts, faultline.WithNoProxy())
	}
	if sink != nil {
		opts = append(opts, faultline.WithEventSink(sink))
	}
	return faultline.NewClient(target, opts...)
}

// connectLimit is what one attempt to connect may take. It ends before the
// time for everything does: what the peer did not do says more than that time
// ran out.
func (f *connFlags) connectLimit() time.Duration {
	switch most := time.Duration(f.timeout) / 4 * 3; {
	case f.connectTimeout > 0:
		return time.Duration(f.connectTimeout)
	case most > 0 && most < defaultConnectTime:
		return most
	}
	return defaultConnectTime
}

func (f *connFlags) creds() (credentials.TransportCredentials, error) {
	cfg, err := f.tls()
	switch {
	case err != nil:
		return nil, err
	case cfg == nil:
		return insecure.NewCredentials(), nil
	}
	return credentials.NewTLS(cfg), nil
}

// tls reads the flags about transport security; nil is cleartext.
func (f *connFlags) tls() (*tls.Config, error) {
	if f.plaintext {
		for _, other := range []struct {
			name string
			set  bool
		}{{"insecure", f.insecure}, {"cacert", f.cacert != ""}, {"cert", f.cert != ""}, {"key", f.key != ""}, {"server-name", f.serverName != ""}} {
			if other.set {
				return nil, f.usagef("--plaintext and --%s are given, want one of them", other.name)
			}
		}
		return nil, nil
	}
	if f.insecure && f.cacert != "" {
		return nil, f.usagef("--insecure and --cacert are given, want one of them")
	}
	cfg := &tls.Config{ServerName: f.serverName, InsecureSkipVerify: f.insecure}
	if f.cacert != "" {
		text, err := os.ReadFile(f.cacert)
		if err != nil {
			return nil, f.usagef("--cacert %s cannot be read: %v; want a PEM file with certificates", f.cacert, bare(err))
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(text) {
			return nil, f.usagef("--cacert %s holds no certificate, want a PEM file with some", f.cacert)
		}
	}
	var own tls.Certificate // none
	switch {
	case f.cert == "" && f.key == "":
	case f.key == "":
		return nil, f.usagef("--cert %s is given without --key, want both or neither", f.cert)
	case f.cert == "":
		return nil, f.usagef("--key %s is given without --cert, want both or neither", f.key)
	default:
		var err error
		if own, err = tls.LoadX509KeyPair(f.cert, f.key); err != nil {
			return nil, f.usagef("--cert %s and --key %s cannot be used: %v", f.cert, f.key, bare(err))
		}
		cfg.Certificates = []tls.Certificate{own}
	}
	// It is given to whoever asks: crypto/tls would keep back one of an authority
	// that the server does not name, and the server could not say what is wrong.
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		f.asked.Store(true)
		return &own, nil
	}
	return cfg, nil
}

// bare takes the path off an error that is shown next to it.
func bare(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// metadata reads headers given as "name: value".
func (f *connFlags) metadata(flag string, headers []string) (metadata.MD, error) {
	md := metadata.MD{}
	for _, h := range headers {
		name, value, ok := strings.Cut(h, ":")
		name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
		switch {
		case !ok:
			return nil, f.usagef("%s %q is no header, want 'name: value'", flag, h)
		case !headerName.MatchString(name):
			return nil, f.usagef("%s: the name %q has characters that metadata may not have, want letters, digits, -, _ and .", flag, name)
		case strings.HasPrefix(name, "grpc-"):
			return nil, f.usagef("%s: the name %q is gRPC's own, want another", flag, name)
		}
		if f.expand {
			missing := ""
			value = os.Expand(value, func(v string) string {
				text, ok := os.LookupEnv(v)
				if !ok {
					missing = v
				}
				return text
			})
			if missing != "" {
				return nil, f.usagef("%s %s: there is no variable %q in the environment", flag, name, missing)
			}
		}
		if strings.HasSuffix(name, "-bin") {
			b, err := fromBase64(value)
			if err != nil {
				return nil, f.usagef("%s %s: the value of a -bin name must be base64: %v", flag, name, err)
			}
			value = b
		}
		md.Append(name, value)
	}
	return md, nil
}

var headerName = regexp.MustCompile(`^[0-9a-z_.-]+$`)

// fromBase64 takes both alphabets, padded or not.
func fromBase64(s string) (string, error) {
	s = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(s, "="))
	b, err := base64.RawStdEncoding.DecodeString(s)
	return string(b), err
}

// seconds is a time given as 1.5s or as 1.5.
type seconds time.Duration

// Set implements pflag.Value.
func (s *seconds) Set(text string) error {
	if n, err := strconv.ParseFloat(text, 64); err == nil {
		text = fmt.Sprintf("%fs", n)
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return errors.New("want a time above 0 such as 5s or 250ms, or a number of seconds")
	}
	*s = seconds(d)
	return nil
}

// String implements pflag.Value; 0 is no limit.
func (s *seconds) String() string {
	if *s == 0 {
		return ""
	}
	return time.Duration(*s).String()
}

// Type implements pflag.Value.
func (s *seconds) Type() string { return "time" }

// size is a number of bytes.
type size int

// Set implements pflag.Value.
func (s *size) Set(text string) error {
	number, shift := strings.ToLower(text), 0
	for i, unit := range []string{"kib", "mib", "gib"} {
		if n, ok := strings.CutSuffix(number, unit); ok {
			number, shift = strings.TrimSpace(n), 10*(i+1)
		}
	}
	n, err := strconv.ParseUint(number, 10, 31)
	if err != nil || n == 0 || n<<shift > 1<<31-1 {
		return errors.New("want a number of bytes from 1 to 2147483647, such as 16777216 or 16MiB")
	}
	*s = size(n << shift)
	return nil
}

// String implements pflag.Value.
func (s *size) String() string { return strconv.Itoa(int(*s)) }

// Type implements pflag.Value.
func (s *size) Type() string { return "bytes" }

// grpcurlDashes makes -plaintext and its like, as grpcurl takes them, the long
// flags that they are here.
func grpcurlDashes(root *cobra.Command, args []string) []string {
	out := append([]string(nil), args...)
	var fl *pflag.FlagSet
	for i, a := range out {
		if a == "--" {
			break
		}
		if fl == nil {
			if c := verbOf(root, a); c != nil {
				fl = c.Flags()
			}
			continue
		}
		if len(a) > 2 && a[0] == '-' && a[1] != '-' {
			name, _, _ := strings.Cut(a[1:], "=")
			if len(name) > 1 && fl.Lookup(name) != nil {
				out[i] = "-" + a
			}
		}
	}
	return out
}

// verbOf returns the command that takes grpcurl's flags.
func verbOf(root *cobra.Command, name string) *cobra.Command {
	for _, c := range root.Commands() {
		if c.Name() == name && c.Flags().Lookup("plaintext") != nil {
			return c
		}
	}
	return nil
}

// openData opens what -d names: "@" is standard input, "@file" a file, and
// anything else the data itself.
func openData(f *connFlags, data string, stdin io.Reader) (io.Reader, func(), error) {
	name, file := strings.CutPrefix(data, "@")
	switch {
	case !file:
		return strings.NewReader(data), func() {}, nil
	case name == "":
		return stdin, func() {}, nil
	}
	r, err := os.Open(name)
	if err != nil {
		return nil, nil, f.usagef("--data @%s cannot be read: %v; want a file with JSON, or @ alone for standard input", name, bare(err))
	}
	return r, func() { r.Close() }, nil
}
