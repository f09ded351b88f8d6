package server

import (
	"reflect"
	"runtime"
	"testing"
	"testing/fstest"

	vaulthttp "github.com/conclave-secrets/conclave/transport/http"
)

// What the kernel tells is taken as it is; what it does not tell is left out, and
// not made up.
func TestReadHost(t *testing.T) {
	proc := fstest.MapFS{}
	for name, text := range map[string]string{
		"sys/kernel/hostname":  "box\n",
		"sys/kernel/osrelease": "6.1.0-test\n",
		"uptime":               "1234.56 99.0\n",
		"meminfo":              "MemTotal:        8000 kB\nMemFree:         1000 kB\nMemAvailable:    3000 kB\nHugePages_Total:   4\n",
		"cpuinfo":              "processor\t: 0\nmodel name\t: Tester 9000\ncpu MHz\t\t: 2400.5\n\nprocessor\t: 1\nmodel name\t: Tester 9000\n",
	} {
		proc[name] = &fstest.MapFile{Data: []byte(text)}
	}
	want := &vaulthttp.Host{
		Machine: vaulthttp.Machine{Hostname: "box", OS: runtime.GOOS, Arch: runtime.GOARCH, Kernel: "6.1.0-test", Uptime: 1234},
		CPU:     []vaulthttp.CPU{{Number: 0, Model: "Tester 9000", MHz: 2400.5}, {Number: 1, Model: "Tester 9000"}},
		Memory:  vaulthttp.Memory{Total: 8000 << 10, Available: 3000 << 10, Free: 1000 << 10},
	}
	if got := readHost(proc); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	empty := &vaulthttp.Host{Machine: vaulthttp.Machine{OS: runtime.GOOS, Arch: runtime.GOARCH}, CPU: []vaulthttp.CPU{}}
	if got := readHost(fstest.MapFS{}); !reflect.DeepEqual(got, empty) {
		t.Errorf("of nothing: %+v", got)
	}
	garbled := fstest.MapFS{"meminfo": {Data: []byte("MemTotal: many kB\nMemFree: 5\n")}, "cpuinfo": {Data: []byte("model name: x\nprocessor: first\n")}, "uptime": {Data: []byte("soon")}}
	if got := readHost(garbled); !reflect.DeepEqual(got, empty) {
		t.Errorf("of garbage: %+v", got)
	}
}
