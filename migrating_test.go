// SPDX-License-Identifier: Apache-2.0

package faultline_test

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net"
	"os"
	"os/exec"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/test/bufconn"

	"github.com/faultline-rpc/faultline"
	"github.com/faultline-rpc/faultline/codes"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/status"
)

const migrating = "docs/migrating.md"

// api is what a package exports: functions, types, variables and constants by
// name, the methods of its concrete types as "Type.Method".
type api struct {
	names   map[string]bool
	options []string // functions that return a DialOption or ServerOption
}

// exported reads a package's sources. Of methods it takes those of types.
func exported(t *testing.T, dir string, types ...string) api {
	t.Helper()
	a := api{names: map[string]bool{}}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), ".go") || strings.HasSuffix(entry.Name(), "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), dir+"/"+entry.Name(), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			a.add(d, types)
		}
	}
	if len(a.names) == 0 {
		t.Fatalf("%s exports nothing", dir)
	}
	return a
}

func (a *api) add(d ast.Decl, types []string) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if !d.Name.IsExported() {
			return
		}
		if d.Recv != nil {
			if recv := receiver(d); slices.Contains(types, recv) {
				a.names[recv+"."+d.Name.Name] = true
			}
			return
		}
		a.names[d.Name.Name] = true
		if r := d.Type.Results; r != nil && len(r.List) == 1 {
			if id, ok := r.List[0].Type.(*ast.Ident); ok && (id.Name == "DialOption" || id.Name == "ServerOption") {
				a.options = append(a.options, d.Name.Name)
			}
		}
	case *ast.GenDecl:
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() {
					a.names[s.Name.Name] = true
				}
			case *ast.ValueSpec:
				for _, n := range s.Names {
					if n.IsExported() {
						a.names[n.Name] = true
					}
				}
			}
		}
	}
}

// receiver returns the name of a method's type.
func receiver(d *ast.FuncDecl) string {
	e := d.Recv.List[0].Type
	if p, ok := e.(*ast.StarExpr); ok {
		e = p.X
	}
	id, _ := e.(*ast.Ident)
	if id == nil {
		return ""
	}
	return id.Name
}

// row is one line of a table whose first column names grpc-go's identifiers
// and whose second names what to use.
type row struct {
	theirs, ours []string
	line         int
}

var inBackticks = regexp.MustCompile("`([^`]*)`")

func codesIn(cell string) []string {
	var out []string
	for _, m := range inBackticks.FindAllStringSubmatch(cell, -1) {
		out = append(out, m[1])
	}
	return out
}

// rows returns the lines of the tables that open with "| grpc-go |".
func rows(text string) []row {
	var out []row
	inside := false
	for i, line := range strings.Split(text, "\n") {
		cells := strings.Split(line, "|")
		switch {
		case !strings.HasPrefix(line, "|"):
			inside = false
		case strings.HasPrefix(line, "| grpc-go |"):
			inside = true
		case inside && len(cells) >= 5 && !strings.HasPrefix(line, "|--"):
			out = append(out, row{codesIn(cells[1]), codesIn(cells[2]), i + 1})
		}
	}
	return out
}

// grpcDir finds the sources of grpc-go.
func grpcDir(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", grpcAPI).Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// TestMigratingIsComplete holds docs/migrating.md against what grpc-go and this
// module export: whatever is added to either needs its line.
func TestMigratingIsComplete(t *testing.T) {
	text, err := os.ReadFile(migrating)
	if err != nil {
		t.Fatal(err)
	}
	theirs := exported(t, grpcDir(t), "ClientConn", "Server")
	ours := exported(t, ".")
	for _, m := range []reflect.Type{reflect.TypeFor[*faultline.ClientConn](), reflect.TypeFor[*faultline.Server]()} {
		for i := range m.NumMethod() { // embedded ones too
			ours.names[m.Elem().Name()+"."+m.Method(i).Name] = true
		}
	}
	known := map[string]api{"faultline": ours, "grpc": theirs, "status": exported(t, "status"), "fault": exported(t, "fault")}
	for _, problem := range hold(rows(string(text)), theirs, ours, known) {
		t.Errorf("%s: %s", migrating, problem)
	}
	for _, o := range ours.options {
		if !strings.Contains(string(text), "`faultline."+o+"`") {
			t.Errorf("%s does not mention the option faultline.%s", migrating, o)
		}
	}
}

// hold returns what is missing or wrong in a table.
func hold(table []row, theirs, ours api, known map[string]api) []string {
	var out []string
	seen := map[string]bool{}
	for _, r := range table {
		for _, name := range r.theirs {
			if seen[name] {
				out = append(out, "grpc."+name+" has two lines")
			}
			seen[name] = true
			if !theirs.names[name] {
				out = append(out, name+" is nothing that grpc-go exports")
			}
			if ours.names[name] && !slices.Contains(r.ours, "faultline."+name) {
				out = append(out, "the line of "+name+" does not name faultline."+name+", which exists")
			}
		}
		for _, name := range r.ours {
			pkg, id, _ := strings.Cut(name, ".")
			if a, ok := known[pkg]; ok && !a.names[id] {
				out = append(out, name+" does not exist")
			}
		}
	}
	for name := range theirs.names {
		if !seen[name] {
			out = append(out, "grpc-go exports "+name+", which has no line")
		}
	}
	slices.Sort(out)
	return out
}

func TestMigratingTableBites(t *testing.T) {
	names := func(list ...string) api {
		a := api{names: map[string]bool{}}
		for _, n := range list {
			a.names[n] = true
		}
		return a
	}
	theirs, ours := names("WithA", "WithB", "Server.Stop"), names("WithA", "Server.Stop")
	known := map[string]api{"faultline": ours}
	head := "| grpc-go | here | difference |\n|---|---|---|\n"
	for _, tc := range []struct {
		table string
		want  []string
	}{
		{"| `WithA`, `WithB` | `faultline.WithA` | |\n| `Server.Stop` | `faultline.Server.Stop` | |\n", nil},
		{"| `WithA` | `faultline.WithA` | |\n| `Server.Stop` | `faultline.Server.Stop` | |\n", []string{"grpc-go exports WithB, which has no line"}},
		{"| `WithA`, `WithB` | `faultline.WithB` | |\n| `Server.Stop` | `faultline.Server.Stop` | |\n",
			[]string{"faultline.WithB does not exist", "the line of WithA does not name faultline.WithA, which exists"}},
		{"| `WithA`, `WithB`, `WithC` | `faultline.WithA` | |\n| `Server.Stop` | `faultline.Server.Stop` | |\n| `WithA` | `faultline.WithA` | |\n",
			[]string{"WithC is nothing that grpc-go exports", "grpc.WithA has two lines"}},
	} {
		if got := hold(rows(head+tc.table), theirs, ours, known); !slices.Equal(got, tc.want) {
			t.Errorf("%s\ngot  %q\nwant %q", tc.table, got, tc.want)
		}
	}
}

// pair is a client and a server of one implementation.
type pair struct {
	serve  func(lis net.Listener, desc *grpc.ServiceDesc, impl any) (stop func())
	client func(t *testing.T, dial func(context.Context, string) (net.Conn, error)) grpc.ClientConnInterface
}

var pairs = map[string]pair{
	"faultline": {
		serve: func(lis net.Listener, desc *grpc.ServiceDesc, impl any) func() {
			s := faultline.NewServer(faultline.Logger(quiet))
			s.RegisterService(desc, impl)
			go func() { _ = s.Serve(lis) }()
			return s.Stop
		},
		client: func(t *testing.T, dial func(context.Context, string) (net.Conn, error)) grpc.ClientConnInterface {
			cc := dialTo(dial)
			t.Cleanup(func() { _ = cc.Close() })
			return cc
		},
	},
	"grpc-go": {
		serve: func(lis net.Listener, desc *grpc.ServiceDesc, impl any) func() {
			s := grpc.NewServer()
			s.RegisterService(desc, impl)
			go func() { _ = s.Serve(lis) }()
			return s.Stop
		},
		client: func(t *testing.T, dial func(context.Context, string) (net.Conn, error)) grpc.ClientConnInterface {
			cc, err := grpc.NewClient("passthrough:///users.test:50051", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(dial))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = cc.Close() })
			return cc
		},
	},
}

// embedding is a call option that carries another inside.
type embedding struct{ grpc.HeaderCallOption }

// foreignCodec is registered with nobody but the client that forces it.
type foreignCodec struct{ encoding.CodecV2 }

func (foreignCodec) Name() string { return "unheard-of" }

// TestMigratingClaims tries what docs/migrating.md says of both sides.
func TestMigratingClaims(t *testing.T) {
	get := func(ctx context.Context, id string) (string, error) {
		switch id {
		case "plain":
			return "", errors.New("secret")
		case "wrapped":
			return "", fmt.Errorf("load: %w", status.Error(codes.NotFound, "no user"))
		case "slow":
			<-ctx.Done()
			return "", ctx.Err()
		}
		return id, grpc.SetHeader(ctx, metadata.Pairs("k", "v"))
	}
	large := metadata.AppendToOutgoingContext(t.Context(), "token", strings.Repeat("x", 70<<10))
	for _, tc := range []struct {
		what         string
		ctx          context.Context
		id           string
		opt          grpc.CallOption
		ours, theirs func(err error, header metadata.MD) bool
	}{
		{"an error that is no status", t.Context(), "plain", grpc.StaticMethod(),
			func(err error, _ metadata.MD) bool {
				return status.Code(err) == codes.Unknown && !strings.Contains(err.Error(), "secret")
			},
			func(err error, _ metadata.MD) bool {
				return status.Code(err) == codes.Unknown && strings.Contains(err.Error(), "secret")
			}},
		{"a wrapped status", t.Context(), "wrapped", grpc.StaticMethod(),
			func(err error, _ metadata.MD) bool { return status.Convert(err).Message() == "no user" },
			func(err error, _ metadata.MD) bool {
				return status.Convert(err).Message() == "load: rpc error: code = NotFound desc = no user"
			}},
		{"a content-subtype without codec", t.Context(), "1", grpc.ForceCodecV2(foreignCodec{encoding.GetCodecV2("proto")}),
			func(err error, _ metadata.MD) bool {
				return status.Code(err) == codes.Unimplemented && strings.Contains(err.Error(), "codec.subtype")
			},
			func(err error, _ metadata.MD) bool { return err == nil }},
		{"70 KiB of metadata", large, "1", grpc.StaticMethod(),
			func(err error, _ metadata.MD) bool { return fault.HTTP2HeaderList.Is(err) },
			func(err error, _ metadata.MD) bool { return err == nil }},
		{"the deadline", t.Context(), "slow", grpc.StaticMethod(),
			func(err error, _ metadata.MD) bool {
				return status.Code(err) == codes.DeadlineExceeded && errors.Is(err, context.DeadlineExceeded)
			},
			func(err error, _ metadata.MD) bool {
				return status.Code(err) == codes.DeadlineExceeded && !errors.Is(err, context.DeadlineExceeded)
			}},
		{"an option that embeds another", t.Context(), "1", nil,
			func(err error, header metadata.MD) bool { return err == nil && header == nil },
			func(err error, header metadata.MD) bool { return err == nil && len(header["k"]) == 1 }},
	} {
		for name, p := range pairs {
			t.Run(tc.what+"/"+name, func(t *testing.T) {
				lis := bufconn.Listen(1 << 16)
				t.Cleanup(p.serve(lis, &usersDesc, &users{get: get}))
				client := &usersClient{p.client(t, func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) })}
				var header metadata.MD
				opt, want := tc.opt, tc.theirs
				if opt == nil {
					opt = embedding{grpc.HeaderCallOption{HeaderAddr: &header}}
				}
				if name == "faultline" {
					want = tc.ours
				}
				ctx, cancel := tc.ctx, context.CancelFunc(func() {})
				if tc.id == "slow" {
					ctx, cancel = context.WithTimeout(ctx, 20*time.Millisecond)
				}
				defer cancel()
				_, err := client.GetUser(ctx, tc.id, opt)
				if !want(err, header) {
					t.Errorf("it is not as %s says: %v, header %v", migrating, err, header)
				}
			})
		}
	}
}
