package http

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// A Gauge is a number of the node.
type Gauge struct {
	Name   string // in the words of Prometheus, without a prefix
	Help   string
	Labels []Label
	Value  float64
	// Counter: it only grows while the node runs.
	Counter bool
}

// A Label tells numbers of one name apart.
type Label struct{ Name, Value string }

// A Host describes a machine, as far as it is known.
type Host struct {
	Timestamp time.Time `json:"timestamp"`
	Machine   Machine   `json:"host"`
	CPU       []CPU     `json:"cpu"`
	Memory    Memory    `json:"memory"`
}

// A Machine is what a Host is.
type Machine struct {
	Hostname string `json:"hostname"`
	OS       string `json:"os"`
	Arch     string `json:"kernelArch"`
	Kernel   string `json:"kernelVersion,omitempty"`
	Uptime   uint64 `json:"uptime,omitempty"` // seconds
}

// A CPU is one processor.
type CPU struct {
	Number int     `json:"cpu"`
	Model  string  `json:"modelName,omitempty"`
	MHz    float64 `json:"mhz,omitempty"`
}

// Memory is in bytes.
type Memory struct {
	Total     uint64 `json:"total,omitempty"`
	Available uint64 `json:"available,omitempty"`
	Free      uint64 `json:"free,omitempty"`
}

// noted is a ResponseWriter that remembers the code.
type noted struct {
	http.ResponseWriter
	code int
}

// WriteHeader implements http.ResponseWriter.
func (w *noted) WriteHeader(code int) {
	w.code = code
	w.ResponseWriter.WriteHeader(code)
}

// tallied are the methods that are told apart; all others count as the last.
var tallied = [...]string{http.MethodGet, http.MethodPut, http.MethodPost, http.MethodDelete, http.MethodPatch, http.MethodHead, "LIST", "other"}

// tally counts answers by method and code since the start. It takes no lock.
type tally struct {
	codes [len(tallied)][500]atomic.Uint64 // from 100 on
	nanos [len(tallied)]atomic.Int64
}

func (t *tally) count(method string, code int, took time.Duration) {
	i := slices.Index(tallied[:], method)
	if i < 0 {
		i = len(tallied) - 1
	}
	if at := code - 100; 0 <= at && at < len(t.codes[i]) {
		t.codes[i][at].Add(1)
	}
	t.nanos[i].Add(int64(took))
}

func (t *tally) gauges() []Gauge {
	var all, times []Gauge
	for i, method := range tallied {
		var sum uint64
		for at := range t.codes[i] {
			if n := t.codes[i][at].Load(); n > 0 {
				sum += n
				all = append(all, Gauge{Name: "http_requests_total", Help: "answers of this node's HTTP API since it started", Counter: true,
					Labels: []Label{{"method", method}, {"code", strconv.Itoa(at + 100)}}, Value: float64(n)})
			}
		}
		if sum > 0 {
			times = append(times, Gauge{Name: "http_request_seconds_total", Help: "time that those answers took together", Counter: true,
				Labels: []Label{{"method", method}}, Value: time.Duration(t.nanos[i].Load()).Seconds()})
		}
	}
	return append(all, times...)
}

// metrics answers with the numbers of this node, in the form that the parameter
// format names.
func (h *handler) metrics(w http.ResponseWriter, r *http.Request) {
	format := r.URL.Query().Get("format")
	if format != "" && format != "prometheus" {
		h.refuse(w, bad("the parameter format is prometheus, or none for JSON"))
		return
	}
	all, err := h.node.Gauges(r.Context(), caller(r))
	if err != nil {
		h.refuse(w, err)
		return
	}
	all = append(all, Gauge{Name: "http_requests_in_flight", Help: "requests of the HTTP API that are being answered", Value: float64(h.within.Load())})
	all = append(all, h.served.gauges()...)
	if format == "" {
		write(w, http.StatusOK, spellMetrics(all, time.Now()))
		return
	}
	text := exposition(all)
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(text) // as in write
}

// metricsPrefix is what the names of all numbers start with.
const metricsPrefix = "conclave_"

// exposition writes numbers in the text format of Prometheus, version 0.0.4. Those
// of one name stand together, as it demands.
func exposition(all []Gauge) []byte {
	slices.SortStableFunc(all, func(a, b Gauge) int { return strings.Compare(a.Name, b.Name) })
	var out bytes.Buffer
	last := ""
	for _, g := range all {
		name := metricsPrefix + g.Name
		if name != last {
			kind := "gauge"
			if g.Counter {
				kind = "counter"
			}
			fmt.Fprintf(&out, "# HELP %s %s\n# TYPE %s %s\n", name, g.Help, name, kind)
			last = name
		}
		out.WriteString(name)
		for i, l := range g.Labels {
			out.WriteString(map[bool]string{true: "{", false: ","}[i == 0])
			fmt.Fprintf(&out, "%s=\"%s\"", l.Name, labelEscapes.Replace(l.Value))
		}
		if len(g.Labels) > 0 {
			out.WriteByte('}')
		}
		fmt.Fprintf(&out, " %s\n", strconv.FormatFloat(g.Value, 'g', -1, 64))
	}
	return out.Bytes()
}

var labelEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// metricsAnswer is the same as JSON, in the shape that clients of Vault know. Its
// counters count since the start.
type metricsAnswer struct {
	Timestamp string
	Gauges    []metric
	Points    []metric
	Counters  []counter
	Samples   []metric
}

type metric struct {
	Name   string
	Value  float64
	Labels map[string]string
}

type counter struct {
	Name   string
	Count  float64
	Labels map[string]string
}

func spellMetrics(all []Gauge, now time.Time) metricsAnswer {
	out := metricsAnswer{Timestamp: now.UTC().Format("2006-01-02 15:04:05 -0700 MST"), Gauges: []metric{}, Points: []metric{}, Counters: []counter{}, Samples: []metric{}}
	for _, g := range all {
		labels := map[string]string{}
		for _, l := range g.Labels {
			labels[l.Name] = l.Value
		}
		if name := metricsPrefix + g.Name; g.Counter {
			out.Counters = append(out.Counters, counter{name, g.Value, labels})
		} else {
			out.Gauges = append(out.Gauges, metric{name, g.Value, labels})
		}
	}
	return out
}

// hostInfo answers with what is known of the machine.
func (h *handler) hostInfo(w http.ResponseWriter, r *http.Request) {
	host, id, err := h.node.Host(r.Context(), caller(r))
	if err != nil {
		h.refuse(w, err)
		return
	}
	write(w, http.StatusOK, &envelope{RequestID: id, Data: host})
}
