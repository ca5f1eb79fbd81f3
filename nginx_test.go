// SPDX-License-Identifier: Apache-2.0

//go:build nginx

package faultline_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// nginxConf is a proxy of the fleet that retires every connection after ten
// calls, on both of its sides.
const nginxConf = `
daemon off;
master_process off;
worker_processes 1;
pid %[1]s/pid;
error_log %[1]s/error.log warn;
events { worker_connections 1024; }
http {
	access_log off;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	upstream fleet {
		%[3]s
		keepalive 64;
		keepalive_requests 10;
	}
	server {
		listen %[2]s http2;
		keepalive_requests 10;
		location / { grpc_pass grpc://fleet; }
	}
}
`

// proxied starts nginx before the servers and returns its address.
func (f *fleet) proxied() string {
	lis := listen(f.t)
	addr := lis.Addr().String()
	if err := lis.Close(); err != nil {
		f.t.Fatal(err)
	}
	dir := f.t.TempDir()
	var servers strings.Builder
	for _, a := range f.addrs {
		fmt.Fprintf(&servers, "server %s max_fails=0;\n", a)
	}
	conf := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, nginxConf, dir, addr, servers.String()), 0o600); err != nil {
		f.t.Fatal(err)
	}
	var said bytes.Buffer
	cmd := exec.CommandContext(f.t.Context(), "nginx", "-p", dir, "-c", conf, "-e", filepath.Join(dir, "error.log"))
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_ = cmd.Wait() // it is killed
	}()
	f.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-gone
		if f.t.Failed() {
			f.t.Logf("nginx: %s%s", said.String(), complaints(filepath.Join(dir, "error.log")))
		}
	})
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		nc, err := net.Dial("tcp", addr)
		if err == nil {
			_ = nc.Close()
			return addr
		}
		select {
		case <-gone:
			f.t.Fatalf("nginx ended: %s", said.String())
		case <-tick.C:
		}
	}
}

// complaints returns what nginx logged, without the servers that were away
// when it called: it asks others then.
func complaints(file string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	for line := range strings.Lines(string(text)) {
		if !strings.Contains(line, "Connection refused") && b.Len() < 8000 {
			b.WriteString(line)
		}
	}
	return b.String()
}

// TestNginx: no call is lost, and none runs twice, through a proxy that says
// GOAWAY after every ten of them. It does not repeat a request that it sent to
// a server whose port then closed, or that refused it by GOAWAY: that takes a
// client with a retry policy.
func TestNginx(t *testing.T) {
	for _, s := range []scene{
		{name: "steady", steady: true},
		{name: "steady grpc-go servers", steady: true, grpcGo: "server"},
		{name: "draining", retries: true},
		{name: "draining grpc-go servers", retries: true, grpcGo: "server"},
	} {
		t.Run(s.name, func(t *testing.T) {
			f := newFleet(t, s, newLedger(howMany(t, 0, 2000)))
			f.told = []string{f.proxied()}
			f.losesNothing()
		})
	}
}
