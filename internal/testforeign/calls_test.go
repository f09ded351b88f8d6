package testforeign

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	vault "github.com/hashicorp/vault/api"
	bao "github.com/openbao/openbao/api/v2"
)

var rewriteCalls = flag.Bool("calls.rewrite", false, "write into testdata/calls.txt which test drives which call")

// callsFile lists every method that can be reached from a foreign client, one a line:
//
//	TYPE.METHOD  CLIENTS  TEST       the test of that name drives it, with each of the clients
//	TYPE.METHOD  CLIENTS  - REASON   it is not driven
//
// The test "Mounts" is TestVaultMounts for the one client and TestOpenBaoMounts for
// the other. A method that does nothing but call the one of the same name with
// WithContext at its end stands for both.
const callsFile = "testdata/calls.txt"

// clients are the foreign clients, with the packages that they come from and the
// prefixes of the tests that drive them.
var clients = []struct {
	name, module, tests string
	root                reflect.Type
}{
	{"vault", "github.com/hashicorp/vault/api", "TestVault", reflect.TypeFor[*vault.Client]()},
	{"openbao", "github.com/openbao/openbao/api/v2", "TestOpenBao", reflect.TypeFor[*bao.Client]()},
}

// driven has the tests that made each call, by client and method.
var driven = struct {
	sync.Mutex
	by map[string]map[string]bool // "vault Sys.Mount": tests
}{by: map[string]map[string]bool{}}

var methodName = regexp.MustCompile(`^(.+)\.\(\*(\w+)\)\.(\w+)-fm$`)

// did returns a method of a client, as it is, but noting each call of it. So
// nothing is noted that was not called.
func did[F any](t *testing.T, method F) F {
	t.Helper()
	v := reflect.ValueOf(method)
	name := runtime.FuncForPC(v.Pointer()).Name()
	parts := methodName.FindStringSubmatch(name)
	if parts == nil {
		t.Fatalf("%s is no method of a client", name)
	}
	key := ""
	for _, c := range clients {
		if parts[1] == c.module {
			key = c.name + " " + parts[2] + "." + parts[3]
		}
	}
	if key == "" {
		t.Fatalf("%s is of no foreign client", name)
	}
	test, _, _ := strings.Cut(t.Name(), "/")
	return reflect.MakeFunc(v.Type(), func(args []reflect.Value) []reflect.Value {
		driven.Lock()
		if driven.by[key] == nil {
			driven.by[key] = map[string]bool{}
		}
		driven.by[key][test] = true
		driven.Unlock()
		if v.Type().IsVariadic() {
			return v.CallSlice(args)
		}
		return v.Call(args)
	}).Interface().(F)
}

// reachable are the methods of a client, and of all types of its package that its
// methods lead to, as "Sys.Mount".
func reachable(root reflect.Type, module string) []string {
	seen := map[reflect.Type]bool{}
	var names []string
	var visit func(t reflect.Type)
	visit = func(t reflect.Type) {
		if t.Kind() != reflect.Pointer || t.Elem().PkgPath() != module || seen[t] {
			return
		}
		seen[t] = true
		for i := range t.NumMethod() {
			m := t.Method(i)
			names = append(names, t.Elem().Name()+"."+m.Name)
			for j := range m.Type.NumOut() {
				visit(m.Type.Out(j))
			}
		}
	}
	visit(root)
	slices.Sort(names)
	return names
}

// calls are the methods of a client that the list must have.
func calls(root reflect.Type, module string) ([]string, error) {
	short, err := shorthands(module)
	return slices.DeleteFunc(reachable(root, module), func(name string) bool {
		plain, long := strings.CutSuffix(name, "WithContext")
		return long && short[plain]
	}), err
}

// shorthands are the methods of a module that call their twin WithContext; see
// callsFile.
func shorthands(module string) (map[string]bool, error) {
	dir, err := exec.Command("go", "list", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		return nil, fmt.Errorf("finding the source of %s: %w", module, err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), "*.go"))
	if err != nil {
		return nil, err
	}
	found := map[string]bool{}
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			return nil, err
		}
		for _, d := range f.Decls {
			if method, ok := d.(*ast.FuncDecl); ok && callsTwin(method) {
				found[receiver(method)+"."+method.Name.Name] = true
			}
		}
	}
	return found, nil
}

func receiver(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return ""
	}
	if star, ok := f.Recv.List[0].Type.(*ast.StarExpr); ok {
		if name, ok := star.X.(*ast.Ident); ok {
			return name.Name
		}
	}
	return ""
}

// callsTwin tells whether all that f does is to return what its twin does.
func callsTwin(f *ast.FuncDecl) bool {
	if f.Body == nil || len(f.Body.List) != 1 {
		return false
	}
	last, ok := f.Body.List[0].(*ast.ReturnStmt)
	if !ok || len(last.Results) != 1 {
		return false
	}
	call, ok := last.Results[0].(*ast.CallExpr)
	if !ok {
		return false
	}
	selector, ok := call.Fun.(*ast.SelectorExpr)
	return ok && selector.Sel.Name == f.Name.Name+"WithContext"
}

// call is a line of the list.
type call struct {
	clients []string
	test    string // "": it is not driven
	reason  string
}

func readCalls() (map[string]*call, error) {
	raw, err := os.ReadFile(callsFile)
	if err != nil {
		return nil, err
	}
	list := map[string]*call{}
	for i, line := range strings.Split(string(raw), "\n") {
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(line, "#") {
			continue
		}
		if len(fields) < 3 || list[fields[0]] != nil {
			return nil, fmt.Errorf("%s:%d: no line of a list: %q", callsFile, i+1, line)
		}
		c := &call{clients: strings.Split(fields[1], ",")}
		if c.test = fields[2]; c.test == "-" {
			c.test, c.reason = "", strings.Join(fields[3:], " ")
		}
		if c.test == "" && c.reason == "" {
			return nil, fmt.Errorf("%s:%d: neither driven nor a reason why not", callsFile, i+1)
		}
		list[fields[0]] = c
	}
	return list, nil
}

// Every call that the clients offer is in the list, so that a new version of a
// client shows what it can do that nobody has thought of.
func TestEveryCallIsListed(t *testing.T) {
	if *rewriteCalls {
		t.Skip("the list is being written")
	}
	list, err := readCalls()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range clients {
		there, err := calls(c.root, c.module)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range there {
			if list[name] == nil || !slices.Contains(list[name].clients, c.name) {
				t.Errorf("%s has %s, which %s does not list", c.name, name, callsFile)
			}
		}
		for name, listed := range list {
			if slices.Contains(listed.clients, c.name) && !slices.Contains(there, name) {
				t.Errorf("%s has no %s, which %s lists", c.name, name, callsFile)
			}
		}
	}
}

// undriven tells what calls the list takes for driven, and nobody made. It is asked
// when all tests have run.
func undriven() error {
	list, err := readCalls()
	if err != nil {
		return err
	}
	var missing []error
	for _, name := range slices.Sorted(maps.Keys(list)) {
		for _, c := range clients {
			listed := list[name]
			by := driven.by[c.name+" "+name]
			switch {
			case !slices.Contains(listed.clients, c.name):
			case listed.test == "" && len(by) > 0:
				missing = append(missing, fmt.Errorf("%s is driven with %s, but %s says that it is not", name, c.name, callsFile))
			case listed.test != "" && !by[c.tests+listed.test]:
				missing = append(missing, fmt.Errorf("%s%s did not call %s", c.tests, listed.test, name))
			}
		}
	}
	return errors.Join(missing...)
}

// writeCalls brings the list up to date with what was driven. What is in neither
// gets a reason that says so, for somebody to write a better one.
func writeCalls() error {
	old, err := readCalls()
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	lines, tests := map[string]*call{}, map[string][]string{}
	for _, c := range clients {
		there, err := calls(c.root, c.module)
		if err != nil {
			return err
		}
		for _, name := range there {
			by := testsOf(c.name, c.tests, name)
			if lines[name] == nil {
				lines[name], tests[name] = &call{}, by
			}
			lines[name].clients = append(lines[name].clients, c.name)
			tests[name] = slices.DeleteFunc(tests[name], func(test string) bool { return !slices.Contains(by, test) })
		}
	}
	var out strings.Builder
	out.WriteString("# Every method that can be reached from a foreign client: the test that drives it, or why none does.\n")
	for _, name := range slices.Sorted(maps.Keys(lines)) {
		known := old[name]
		if known == nil {
			known = &call{}
		}
		what := "- " + cmp.Or(known.reason, "nobody has said why")
		if slices.Contains(tests[name], known.test) {
			what = known.test
		} else if len(tests[name]) > 0 {
			what = tests[name][0]
		}
		fmt.Fprintf(&out, "%-58s %-14s %s\n", name, strings.Join(lines[name].clients, ","), what)
	}
	return os.WriteFile(callsFile, []byte(out.String()), 0o644)
}

// testsOf are the tests that made a call, as the list names them.
func testsOf(client, prefix, name string) (tests []string) {
	for test := range driven.by[client+" "+name] {
		tests = append(tests, strings.TrimPrefix(test, prefix))
	}
	slices.Sort(tests)
	return tests
}
