// SPDX-License-Identifier: Apache-2.0

package faultline_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/faultline-rpc/faultline/fault"
)

// The house is a test. Each rule below takes the tree of source files and
// returns one sentence per offense, which names the file and the rule.
// TestHouse holds this repository against them, TestHouseRulesBite shows on
// small trees that each rule can fail.

const (
	module   = "github.com/faultline-rpc/faultline"
	spdx     = "// SPDX-License-Identifier: Apache-2.0\n\n"
	maxLines = 700

	grpcAPI = "google.golang.org/grpc" // the big root package: the contract with generated code and middleware
	grpcSub = "google.golang.org/grpc/..."
	protos  = "google.golang.org/protobuf/..."
	details = "google.golang.org/genproto/googleapis/rpc/..."
	xNet    = "golang.org/x/net/..."
)

// room is a layer: a folder and what lies beneath it that is no room itself.
type room struct {
	ours   []string // rooms it may import, beside itself
	theirs []string // third-party packages; "p/..." is everything below p
}

// ground lists the rooms that carry every floor.
var ground = []string{"codes", "fault", "event"}

func onGround(ours ...string) []string { return append(ours, ground...) }

// rooms is the plan of the house. Arrows point down only. Tests may import
// what they like; bench, conformance and tools are modules of their own.
var rooms = map[string]room{
	"codes":            {theirs: []string{"google.golang.org/grpc/codes"}},
	"event":            {},
	"fault":            {ours: []string{"codes", "internal/text"}, theirs: []string{grpcSub, protos, details}},
	"h2/frame":         {},
	"h2/hpack":         {},
	"h2":               {ours: []string{"h2/frame", "h2/hpack", "event"}},
	"journal":          {ours: onGround()},
	"status":           {ours: onGround(), theirs: []string{grpcSub, protos, details}},
	"codec":            {ours: onGround(), theirs: []string{grpcSub, protos}},
	"lens":             {ours: onGround()},
	"wire":             {ours: onGround("h2", "h2/hpack", "codec"), theirs: []string{grpcSub, protos, details}},
	"channel":          {ours: onGround("h2", "journal", "internal/sockopt"), theirs: []string{grpcSub, protos, details, "golang.org/x/net/http/httpproxy"}},
	"call":             {ours: onGround("channel", "wire", "h2", "h2/hpack", "codec", "status", "journal"), theirs: []string{grpcAPI, grpcSub, protos, details}},
	"server":           {ours: onGround("wire", "h2", "h2/hpack", "codec", "status", "journal", "internal/near", "internal/sockopt"), theirs: []string{grpcAPI, grpcSub, protos, details}},
	".":                {ours: onGround("call", "channel", "server", "status"), theirs: []string{grpcAPI, grpcSub, protos, details}},
	"intercept":        {ours: onGround("status"), theirs: []string{grpcAPI, grpcSub, protos, details}},
	"bridge":           {ours: onGround("status", "codec"), theirs: []string{grpcAPI, grpcSub, protos, details}},
	"doctor":           {ours: onGround("call", "channel", "wire", "h2", "h2/hpack", "status", "internal", "internal/near"), theirs: []string{grpcSub, protos, details}},
	"internal/near":    {},
	"internal/sockopt": {},
	"internal/text":    {},
	"internal":         {theirs: []string{xNet}},
	"cmd":              {ours: []string{"..."}, theirs: []string{grpcAPI, grpcSub, protos, details, xNet, "github.com/spf13/cobra/...", "github.com/spf13/pflag/...", "github.com/bufbuild/protocompile/..."}},
}

// source is one Go file.
type source struct {
	name      string // slash-separated, from the root
	text      string
	ast       *ast.File
	generated bool
	test      bool
	foreign   bool // it belongs to a module of its own
}

func (s *source) dir() string { return path.Dir(s.name) }

// tree is what the rules look at.
type tree struct {
	fset  *token.FileSet
	files []*source
	texts map[string]string // every text file, Go or not
}

var generatedMark = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

// load reads names from fsys. Go files below testdata are texts only.
func load(fsys fs.FS, names []string) (*tree, error) {
	t := &tree{fset: token.NewFileSet(), texts: map[string]string{}}
	var modules []string
	for _, n := range names {
		if path.Base(n) == "go.mod" && n != "go.mod" {
			modules = append(modules, path.Dir(n)+"/")
		}
	}
	for _, n := range names {
		b, err := fs.ReadFile(fsys, n)
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted, and git does not know it yet
		}
		if err != nil {
			return nil, err
		}
		if !bytes.Contains(b, []byte{0}) {
			t.texts[n] = string(b)
		}
		if path.Ext(n) != ".go" || strings.Contains("/"+n, "/testdata/") {
			continue
		}
		f, err := parser.ParseFile(t.fset, n, b, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		t.files = append(t.files, &source{
			name: n, text: string(b), ast: f,
			generated: generatedMark.Match(b),
			test:      strings.HasSuffix(n, "_test.go"),
			foreign:   slices.ContainsFunc(modules, func(m string) bool { return strings.HasPrefix(n, m) }),
		})
	}
	return t, nil
}

// roomOf returns the innermost room that dir belongs to, or "".
func roomOf(dir string) string {
	if dir == "." {
		return "."
	}
	for d := dir; d != "."; d = path.Dir(d) {
		if _, ok := rooms[d]; ok {
			return d
		}
	}
	return ""
}

func importsOf(f *ast.File) []string {
	var out []string
	for _, i := range f.Imports {
		p, _ := strconv.Unquote(i.Path.Value) // the parser has checked it
		out = append(out, p)
	}
	return out
}

// ourDir returns the folder of a package of this module.
func ourDir(pkg string) (dir string, ours bool) {
	if pkg == module {
		return ".", true
	}
	return strings.CutPrefix(pkg, module+"/")
}

func standard(pkg string) bool {
	first, _, _ := strings.Cut(pkg, "/")
	return !strings.Contains(first, ".")
}

func matches(patterns []string, pkg string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		if p == grpcSub { // below it, never it: that is grpcAPI
			return strings.HasPrefix(pkg, grpcAPI+"/")
		}
		base, all := strings.CutSuffix(p, "/...")
		return p == pkg || all && (pkg == base || strings.HasPrefix(pkg, base+"/"))
	})
}

// arrows: a package imports the rooms beneath it, and the third-party packages
// that the plan allows, nothing else.
func arrows(t *tree) []string {
	var out []string
	for _, f := range t.files {
		if f.test || f.foreign {
			continue
		}
		name := roomOf(f.dir())
		r, ok := rooms[name]
		if !ok {
			out = append(out, fmt.Sprintf("%s: the folder %s is no room of the house: give it a line in the table of house_test.go", f.name, f.dir()))
			continue
		}
		for _, pkg := range importsOf(f.ast) {
			dir, ours := ourDir(pkg)
			switch to := roomOf(dir); {
			case standard(pkg):
			case ours && to != name && !slices.Contains(r.ours, to) && !slices.Contains(r.ours, "..."):
				out = append(out, fmt.Sprintf("%s: forbidden arrow: room %s may not import %s", f.name, name, pkg))
			case !ours && !matches(r.theirs, pkg):
				out = append(out, fmt.Sprintf("%s: forbidden package: room %s may not import %s", f.name, name, pkg))
			}
		}
	}
	return out
}

// pulled: no room that may not import the root package of grpc-go reaches it
// through others. imports holds every package in the build and its imports.
func pulled(imports map[string][]string) []string {
	var out []string
	for pkg := range imports {
		dir, ours := ourDir(pkg)
		if !ours || matches(rooms[roomOf(dir)].theirs, grpcAPI) {
			continue
		}
		if way := chain(imports, pkg, map[string]bool{}); way != nil {
			out = append(out, fmt.Sprintf("%s: forbidden weight: it pulls in %s: %s", dir, grpcAPI, strings.Join(way, " -> ")))
		}
	}
	slices.Sort(out)
	return out
}

// chain returns a way from pkg to the root package of grpc-go, or nil.
func chain(imports map[string][]string, pkg string, seen map[string]bool) []string {
	if pkg == grpcAPI {
		return []string{pkg}
	}
	seen[pkg] = true
	for _, next := range imports[pkg] {
		if seen[next] {
			continue
		}
		if way := chain(imports, next, seen); way != nil {
			return append([]string{pkg}, way...)
		}
	}
	return nil
}

// captions: every package says in its first sentence what it is.
func captions(t *tree) []string {
	said := map[string]bool{}
	for _, f := range t.files {
		if f.test || f.generated {
			continue
		}
		want := "Package " + f.ast.Name.Name + " "
		if f.ast.Name.Name == "main" {
			want = "Command "
		}
		text := f.ast.Doc.Text()
		said[f.dir()] = said[f.dir()] || strings.HasPrefix(text, want) && strings.Contains(text, ".")
	}
	var out []string
	for dir, ok := range said {
		if !ok {
			out = append(out, fmt.Sprintf("%s: missing caption: no file has a package comment that opens with \"Package %s ...\" (\"Command ...\" for a program)", dir, path.Base(dir)))
		}
	}
	slices.Sort(out)
	return out
}

// license: the first line of every file names the license.
func license(t *tree) []string {
	var out []string
	for _, f := range t.files {
		if !f.generated && !strings.HasPrefix(f.text, spdx) {
			out = append(out, fmt.Sprintf("%s: missing license: it must open with %q and an empty line", f.name, strings.TrimSpace(spdx)))
		}
	}
	return out
}

// length: files stay readable.
func length(t *tree) []string {
	var out []string
	for _, f := range t.files {
		if n := strings.Count(f.text, "\n"); !f.generated && n > maxLines {
			out = append(out, fmt.Sprintf("%s: too long: %d lines, at most %d", f.name, n, maxLines))
		}
	}
	return out
}

// entries maps the variables of fault's catalogue to the ids of their entries.
func entries(t *tree) map[string]string {
	ids := map[string]string{}
	for _, f := range t.files {
		if f.dir() != "fault" || f.test {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			for i := 0; ok && i < min(len(spec.Names), len(spec.Values)); i++ {
				call, _ := spec.Values[i].(*ast.CallExpr)
				if call == nil || len(call.Args) == 0 {
					continue
				}
				if id := entryID(call); id != "" {
					ids[spec.Names[i].Name] = id
				}
			}
			return true
		})
	}
	return ids
}

// entryID returns the id in entry(Entry{ID: "..."}), or "".
func entryID(call *ast.CallExpr) string {
	fun, _ := call.Fun.(*ast.Ident)
	lit, _ := call.Args[0].(*ast.CompositeLit)
	if fun == nil || fun.Name != "entry" || lit == nil {
		return ""
	}
	for _, e := range lit.Elts {
		kv, _ := e.(*ast.KeyValueExpr)
		if kv == nil {
			continue
		}
		key, _ := kv.Key.(*ast.Ident)
		val, _ := kv.Value.(*ast.BasicLit)
		if key != nil && val != nil && key.Name == "ID" {
			id, _ := strconv.Unquote(val.Value)
			return id
		}
	}
	return ""
}

// raised: a circumstance is stamped only in the rooms that its entry lists.
// Asking for one (Is, a comparison, a field) is free; handing an entry on is
// not. roomsOf returns the list of an id.
func raised(t *tree, roomsOf func(id string) []string) []string {
	ids := entries(t)
	var out []string
	for _, f := range t.files {
		if f.test || f.foreign || f.dir() == "fault" {
			continue
		}
		name := localName(f.ast, module+"/fault")
		if name == "" {
			continue
		}
		for _, use := range uses(f.ast, name) {
			id, known := ids[use]
			list := roomsOf(id)
			if known && !slices.Contains(list, f.dir()) && !slices.Contains(list, roomOf(f.dir())) {
				out = append(out, fmt.Sprintf("%s: foreign fault: %s (fault.%s) may be raised in %v only", f.name, id, use, list))
			}
		}
	}
	return out
}

// localName returns the name under which a file imports pkg, or "".
func localName(f *ast.File, pkg string) string {
	for _, i := range f.Imports {
		if p, _ := strconv.Unquote(i.Path.Value); p == pkg {
			if i.Name != nil {
				return i.Name.Name
			}
			return path.Base(pkg)
		}
	}
	return ""
}

// uses returns the selectors of the package pkg in f that raise, or may raise.
func uses(f *ast.File, pkg string) []string {
	var out []string
	var stack []ast.Node
	ast.Inspect(f, func(n ast.Node) bool {
		if n == nil {
			stack = stack[:len(stack)-1]
			return true
		}
		stack = append(stack, n)
		if sel, ok := n.(*ast.SelectorExpr); ok && isIdent(sel.X, pkg) && raises(stack[len(stack)-2], sel) {
			out = append(out, sel.Sel.Name)
		}
		return true
	})
	return out
}

func raises(parent ast.Node, sel *ast.SelectorExpr) bool {
	switch p := parent.(type) {
	case *ast.SelectorExpr:
		return p.Sel.Name == "New" || p.Sel.Name == "Newf"
	case *ast.BinaryExpr:
		return false
	case *ast.CaseClause:
		return !slices.Contains(p.List, ast.Expr(sel))
	}
	return true
}

func isIdent(e ast.Expr, name string) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == name
}

func isCall(n ast.Node, pkg, name string) (*ast.CallExpr, bool) {
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return nil, false
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	return call, ok && sel.Sel.Name == name && isIdent(sel.X, pkg)
}

// sleeps: no test waits for the clock. time.Sleep is allowed in fake time: in
// what is passed to synctest.Test, or to a function of the same folder that
// calls it, and in a function whose comment says that it runs in a bubble.
func sleeps(t *tree) []string {
	wrappers := map[string]map[string]bool{} // folder -> functions that open a bubble
	for _, f := range t.files {
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || !f.test || fn.Recv != nil {
				continue
			}
			ast.Inspect(fn, func(n ast.Node) bool {
				if _, ok := isCall(n, "synctest", "Test"); ok {
					if wrappers[f.dir()] == nil {
						wrappers[f.dir()] = map[string]bool{}
					}
					wrappers[f.dir()][fn.Name.Name] = true
				}
				return true
			})
		}
	}
	var out []string
	for _, f := range t.files {
		if !f.test {
			continue
		}
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && strings.Contains(fn.Doc.Text(), "bubble") {
				continue
			}
			ast.Inspect(d, func(n ast.Node) bool {
				call, sleep := isCall(n, "time", "Sleep")
				if sleep {
					out = append(out, fmt.Sprintf("%s: sleeping test: time.Sleep outside fake time: use testing/synctest, or wait for what is meant", t.fset.Position(call.Pos())))
				}
				_, bubble := isCall(n, "synctest", "Test")
				if call != nil {
					if id, ok := call.Fun.(*ast.Ident); ok && wrappers[f.dir()][id.Name] {
						bubble = true
					}
				}
				return !bubble
			})
		}
	}
	return out
}

// machine finds a path of somebody's machine or the host of a package registry.
var machine = regexp.MustCompile(`(?m)(?:^|[\s"'` + "`" + `(=:,])/(?:root|home|work|Users)/\w|[A-Z]:\\Users\\|(?:proxy|sum)\.golang\.org|goproxy\.\w|registry\.npmjs|pypi\.org|[./]artifactory|GOPROXY=\w`)

// portable: nothing in the repository depends on whose machine it was made on.
func portable(t *tree) []string {
	var out []string
	for name, text := range t.texts {
		if at := machine.FindStringIndex(text); at != nil {
			out = append(out, fmt.Sprintf("%s:%d: machine's own: %q is a path of one machine or the host of a registry", name, 1+strings.Count(text[:at[0]], "\n"), strings.TrimSpace(text[at[0]:at[1]])))
		}
	}
	slices.Sort(out)
	return out
}

// tracked lists the files of the repository: git's view where there is one,
// so that what is ignored stays out, else every file.
func tracked(t *testing.T) []string {
	out, err := exec.CommandContext(t.Context(), "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err == nil && len(out) > 0 {
		return strings.Split(strings.TrimRight(string(out), "\x00"), "\x00")
	}
	var names []string
	err = fs.WalkDir(os.DirFS("."), ".", func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && (d.Name() == ".git" || p == "bin") {
			return fs.SkipDir
		}
		if err == nil && d.Type().IsRegular() {
			names = append(names, p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// graph asks go list for the imports of every package in the build.
func graph(t *testing.T) map[string][]string {
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-deps", "-json=ImportPath,Imports", "./...")
	cmd.Stderr = os.Stderr
	text, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	imports := map[string][]string{}
	for dec := json.NewDecoder(bytes.NewReader(text)); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return imports
		}
		if err != nil {
			t.Fatalf("go list: %v", err)
		}
		imports[p.ImportPath] = p.Imports
	}
}

// rules are those that need the tree alone.
var rules = map[string]func(*tree) []string{
	"arrows": arrows, "captions": captions, "license": license, "length": length, "sleeps": sleeps, "portable": portable,
}

func TestHouse(t *testing.T) {
	house, err := load(os.DirFS("."), tracked(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, rule := range rules {
		t.Run(name, func(t *testing.T) {
			for _, offense := range rule(house) {
				t.Error(offense)
			}
		})
	}
	t.Run("pulled", func(t *testing.T) {
		for _, offense := range pulled(graph(t)) {
			t.Error(offense)
		}
	})
	t.Run("raised", func(t *testing.T) {
		listed := func(id string) []string {
			if e := fault.Lookup(fault.ID(id)); e != nil {
				return e.Rooms
			}
			return nil
		}
		for _, offense := range raised(house, listed) {
			t.Error(offense)
		}
		// Were the catalogue written in another way, the rule would see nothing.
		if n, want := len(entries(house)), len(fault.Catalogue()); n != want {
			t.Errorf("%d entries are found in the source of fault, its catalogue holds %d", n, want)
		}
		for name, id := range entries(house) {
			for _, r := range listed(id) {
				if _, ok := rooms[r]; !ok {
					t.Errorf("fault.%s lists %q, which is no room of the house", name, r)
				}
			}
		}
	})
}

// TestHouseRulesBite adds one file to a tree without an offense, and wants
// exactly one sentence from exactly one rule.
func TestHouseRulesBite(t *testing.T) {
	clean := map[string]string{
		"fault/doc.go":   spdx + "// Package fault says what went wrong.\npackage fault\n\nvar Refused = entry(Entry{ID: \"dial.refused\"})\n",
		"wire/doc.go":    spdx + "// Package wire is gRPC on a stream.\npackage wire\n\nimport _ \"" + module + "/h2/hpack\"\n",
		"channel/a.go":   spdx + "// Package channel picks.\npackage channel\n\nimport \"" + module + "/fault\"\n\nvar _ = fault.Refused.New(fault.Args{})\n",
		"wire/a_test.go": spdx + "package wire\n\nfunc bubble(f func()) { synctest.Test(t, f) }\n\nfunc x() { bubble(func() { time.Sleep(1) }) }\n",
		"bench/go.mod":   "module bench\n",
		"bench/a.go":     spdx + "// Command bench measures.\npackage main\n\nimport _ \"example.com/any\"\n",
		"wire/p.pb.go":   "// Code generated by x. DO NOT EDIT.\n\npackage wire\n" + strings.Repeat("\n", maxLines),
	}
	for _, tc := range []struct{ rule, file, text, want string }{
		{"", "README.md", "see https://example.com/home/page", ""},
		{"arrows", "h2/a.go", spdx + "// Package h2 x.\npackage h2\n\nimport _ \"" + module + "/fault\"\n", "h2/a.go: forbidden arrow: room h2 may not import " + module + "/fault"},
		{"arrows", "h2/hpack/a.go", spdx + "// Package hpack x.\npackage hpack\n\nimport _ \"" + module + "/h2\"\n", "room h2/hpack may not import"},
		{"arrows", "wire/b.go", spdx + "package wire\n\nimport _ \"" + module + "/channel\"\n", "room wire may not import"},
		{"arrows", "wire/b.go", spdx + "package wire\n\nimport _ \"google.golang.org/grpc\"\n", "wire/b.go: forbidden package: room wire may not import google.golang.org/grpc"},
		{"arrows", "call/b.go", spdx + "// Package call x.\npackage call\n\nimport _ \"github.com/spf13/cobra\"\n", "forbidden package"},
		{"arrows", "util/b.go", spdx + "// Package util x.\npackage util\n", "the folder util is no room"},
		{"captions", "codec/a.go", spdx + "package codec\n", "codec: missing caption"},
		{"captions", "cmd/faultline/main.go", spdx + "// Package main runs.\npackage main\n", "cmd/faultline: missing caption"},
		{"license", "bench/b.go", "package main\n", "bench/b.go: missing license"},
		{"length", "wire/long.go", spdx + "package wire\n" + strings.Repeat("\n", maxLines), "wire/long.go: too long: 703 lines"},
		{"sleeps", "wire/b_test.go", spdx + "package wire\n\nfunc TestX() { go func() { time.Sleep(1) }() }\n", "wire/b_test.go:5:28: sleeping test"},
		{"portable", "docs/a.md", "a\nrun /ro" + "ot/go/bin/x", "docs/a.md:2: machine's own"},
		{"portable", "Makefile", "GOPRO" + "XY=https://x", "Makefile:1: machine's own"},
		{"raised", "wire/b.go", spdx + "package wire\n\nimport f \"" + module + "/fault\"\n\nvar _ = f.Refused\n", "wire/b.go: foreign fault: dial.refused (fault.Refused) may be raised in [channel] only"},
		{"", "wire/b.go", spdx + "package wire\n\nimport \"" + module + "/fault\"\n\nvar a = e == fault.Refused || fault.Refused.Is(err)\n", ""},
	} {
		t.Run(tc.rule+" "+tc.file, func(t *testing.T) {
			fsys := fstest.MapFS{tc.file: {Data: []byte(tc.text)}}
			names := []string{tc.file}
			for name, text := range clean {
				fsys[name] = &fstest.MapFile{Data: []byte(text)}
				names = append(names, name)
			}
			house, err := load(fsys, names)
			if err != nil {
				t.Fatal(err)
			}
			got := raised(house, func(string) []string { return []string{"channel"} })
			if len(got) > 0 && tc.rule != "raised" {
				t.Errorf("raised = %q, want none", got)
			}
			for name, rule := range rules {
				offenses := rule(house)
				if len(offenses) > 0 && name != tc.rule {
					t.Errorf("%s = %q, want none", name, offenses)
				}
				got = append(got, offenses...)
			}
			if tc.rule == "" && len(got) == 0 {
				return
			}
			if len(got) != 1 || tc.rule == "" || !strings.Contains(got[0], tc.want) {
				t.Errorf("offenses = %q, want one with %q", got, tc.want)
			}
		})
	}
}

func TestHousePulledBites(t *testing.T) {
	imports := map[string][]string{
		module + "/call":                  {grpcAPI, module + "/wire"},
		module + "/wire":                  {"google.golang.org/grpc/metadata", "google.golang.org/grpc/health"},
		"google.golang.org/grpc/health":   {"context", grpcAPI},
		module + "/codec":                 {"google.golang.org/grpc/encoding"},
		"google.golang.org/grpc/encoding": {"io"},
	}
	got := pulled(imports)
	want := []string{"wire: forbidden weight: it pulls in " + grpcAPI + ": " + module + "/wire -> google.golang.org/grpc/health -> " + grpcAPI}
	if !slices.Equal(got, want) {
		t.Errorf("pulled = %q, want %q", got, want)
	}
}
