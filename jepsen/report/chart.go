package report

import (
	"fmt"
	"html/template"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/conclave-secrets/conclave/jepsen/history"
)

// Charts are drawn as SVG by hand: two lines of a few hundred points need no library,
// and the page must work without a network.
const (
	chartWidth, chartHeight = 1000.0, 220.0
	bins                    = 200
	marginLeft, marginBelow = 60.0, 24.0
)

// A bin is what happened in one slice of a run.
type bin struct {
	outcomes [history.Unknown + 1]int
	waits    []time.Duration // of what was answered, sorted
}

type timeline struct {
	length time.Duration
	bins   []bin
}

func newTimeline(run *history.Run) timeline {
	t := timeline{bins: make([]bin, bins)}
	for _, o := range run.Ops {
		t.length = max(t.length, o.Returned)
	}
	for _, o := range run.Ops {
		b := &t.bins[min(bins-1, int(float64(bins)*float64(o.Returned)/float64(t.length+1)))]
		b.outcomes[o.Outcome]++
		if o.Outcome == history.Done || o.Outcome == history.Refused {
			b.waits = append(b.waits, o.Returned-o.Called)
		}
	}
	for i := range t.bins {
		slices.Sort(t.bins[i].waits)
	}
	return t
}

// A series is one line of a chart: a value for each bin, NaN where there is none.
type series struct {
	Name, Colour string
	values       []float64
}

// throughput draws requests per second by outcome.
func (t timeline) throughput(faults []history.Fault) template.HTML {
	width := t.length.Seconds() / bins
	line := func(name, colour string, outcome history.Outcome) series {
		s := series{Name: name, Colour: colour}
		for _, b := range t.bins {
			s.values = append(s.values, float64(b.outcomes[outcome])/width)
		}
		return s
	}
	return t.draw("requests per second", faults, false, line("done", "#2a7", history.Done), line("refused", "#58c", history.Refused),
		line("not done", "#c93", history.NotDone), line("unknown", "#c33", history.Unknown))
}

// latency draws how long what was answered took, in milliseconds.
func (t timeline) latency(faults []history.Fault) template.HTML {
	line := func(name, colour string, q float64) series {
		s := series{Name: name, Colour: colour}
		for _, b := range t.bins {
			value := math.NaN()
			if n := len(b.waits); n > 0 {
				value = max(.01, float64(b.waits[min(n-1, int(q*float64(n)))].Microseconds())/1000)
			}
			s.values = append(s.values, value)
		}
		return s
	}
	return t.draw("latency in ms", faults, true, line("median", "#2a7", .5), line("p99", "#58c", .99), line("longest", "#c33", 1))
}

// draw makes the picture: fault bands, axes, lines.
func (t timeline) draw(title string, faults []history.Fault, logarithmic bool, lines ...series) template.HTML {
	top, bottom := 1.0, 0.0
	if logarithmic {
		bottom = .01
	}
	for _, l := range lines {
		for _, v := range l.values {
			if v > top {
				top = v
			}
		}
	}
	height := func(v float64) float64 {
		share := v / top
		if logarithmic {
			share = math.Log(v/bottom) / math.Log(top/bottom)
		}
		return chartHeight - share*(chartHeight-10)
	}
	across := func(at time.Duration) float64 {
		return marginLeft + (chartWidth-marginLeft)*float64(at)/float64(t.length+1)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %g %g" role="img" aria-label="%s">`, chartWidth, chartHeight+marginBelow, title)
	for _, f := range faults {
		left, right := across(f.Began), across(min(f.Ended, t.length))
		fmt.Fprintf(&b, `<rect class="fault" x="%.1f" y="0" width="%.1f" height="%g"><title>%s</title></rect>`, left, max(1, right-left), chartHeight, template.HTMLEscapeString(f.Name))
	}
	for _, mark := range []float64{top, top / 2, bottom} {
		if logarithmic && mark == top/2 {
			mark = math.Sqrt(top * bottom)
		}
		fmt.Fprintf(&b, `<line class="grid" x1="%g" x2="%g" y1="%.1f" y2="%.1f"/><text x="%g" y="%.1f" class="axis">%.4g</text>`,
			marginLeft, chartWidth, height(mark), height(mark), marginLeft-6, height(mark)+4, mark)
	}
	for i := range 6 {
		at := t.length * time.Duration(i) / 5
		class := "time"
		if i == 5 {
			class = "axis" // ends where the picture ends
		}
		fmt.Fprintf(&b, `<text x="%.1f" y="%g" class="%s">%s</text>`, across(at), chartHeight+16, class, at.Round(100*time.Millisecond))
	}
	for k, l := range lines {
		fmt.Fprintf(&b, `<path d="%s" stroke="%s"/>`, path(l.values, height), l.Colour)
		fmt.Fprintf(&b, `<text x="%g" y="14" fill="%s">%s</text>`, marginLeft+10+float64(k)*90, l.Colour, l.Name)
	}
	b.WriteString("</svg>")
	return template.HTML(b.String()) // made of numbers, our own words and an escaped name
}

func path(values []float64, height func(float64) float64) string {
	var b strings.Builder
	pen := "M"
	for i, v := range values {
		if math.IsNaN(v) {
			pen = "M"
			continue
		}
		fmt.Fprintf(&b, "%s%.1f %.1f", pen, marginLeft+(chartWidth-marginLeft)*(float64(i)+.5)/bins, height(v))
		pen = "L"
	}
	return b.String()
}
