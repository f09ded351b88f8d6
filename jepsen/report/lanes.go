package report

import (
	"fmt"
	"html/template"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/conclave-secrets/conclave/jepsen/history"
)

// lanes draws requests as bars, one lane for each client, above the faults of that
// time. It shows the neighbours of an instant: what is further away stands in the list.
const (
	laneHeight = 22.0
	laneLabel  = 90.0
	laneBars   = 24 // on either side of the instant
)

var colours = map[history.Outcome]string{history.Done: "#2a7", history.Refused: "#58c", history.NotDone: "#c93", history.Unknown: "#c33"}

// strip is the part of time that a drawing shows.
type strip struct{ from, to time.Duration }

func (s strip) x(at time.Duration) float64 {
	at = min(max(at, s.from), s.to)
	return laneLabel + (chartWidth-laneLabel)*float64(at-s.from)/float64(s.to-s.from)
}

func lanes(ops []*history.Op, faults []history.Fault, named []*history.Op, at time.Duration) template.HTML {
	middle := slices.IndexFunc(ops, func(o *history.Op) bool { return o.Returned >= at })
	ops = ops[max(0, middle-laneBars):min(len(ops), max(middle, 0)+laneBars)]
	ops = slices.Concat(ops, slices.DeleteFunc(slices.Clone(named), func(o *history.Op) bool { return slices.Contains(ops, o) }))
	s := strip{at, at + 1}
	clients := map[int]int{} // to their lane
	for _, o := range ops {
		clients[o.Client] = 0
		s.from, s.to = min(s.from, max(o.Called, at-around)), max(s.to, min(o.Returned, at+around))
	}
	edge := (s.to - s.from) / 40
	s = strip{max(0, s.from-edge), s.to + edge}
	for lane, client := range slices.Sorted(maps.Keys(clients)) {
		clients[client] = lane
	}
	faults = slices.DeleteFunc(slices.Clone(faults), func(f history.Fault) bool { return f.Ended < s.from || f.Began > s.to })

	bottom := laneHeight * float64(len(clients)+len(faults))
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %g %g" role="img" aria-label="requests around the moment">`, chartWidth, bottom+marginBelow)
	for client, lane := range clients {
		fmt.Fprintf(&b, `<text x="4" y="%.1f">client %d</text>`, laneHeight*float64(lane)+15, client)
	}
	for i, f := range faults {
		y := laneHeight * float64(len(clients)+i)
		left, right := s.x(f.Began), s.x(f.Ended)
		fmt.Fprintf(&b, `<rect class="fault" x="%.1f" y="%.1f" width="%.1f" height="%g"><title>%s</title></rect><text x="%.1f" y="%.1f">%s</text>`,
			left, y+2, max(2, right-left), laneHeight-4, template.HTMLEscapeString(f.String()), min(left+4, chartWidth-180), y+15, template.HTMLEscapeString(faultLabel(f)))
	}
	for _, o := range ops {
		class := "bar"
		if slices.Contains(named, o) {
			class = "bar named"
		}
		y, left, right := laneHeight*float64(clients[o.Client]), s.x(o.Called), s.x(o.Returned)
		fmt.Fprintf(&b, `<rect class="%s" x="%.1f" y="%.1f" width="%.1f" height="%g" fill="%s"><title>%s</title></rect>`,
			class, left, y+3, max(3, right-left), laneHeight-6, colours[o.Outcome], template.HTMLEscapeString(o.String()))
		if label := barLabel(o); right-left > 7*float64(len(label)) {
			fmt.Fprintf(&b, `<text x="%.1f" y="%.1f" fill="#fff" pointer-events="none">%s</text>`, left+4, y+15, template.HTMLEscapeString(label))
		}
	}
	fmt.Fprintf(&b, `<line class="instant" x1="%.1f" x2="%.1f" y1="0" y2="%g"/>`, s.x(at), s.x(at), bottom)
	for i := range 5 {
		when := s.from + (s.to-s.from)*time.Duration(i)/4
		class := "time"
		if i == 4 {
			class = "axis"
		}
		fmt.Fprintf(&b, `<text x="%.1f" y="%.1f" class="%s">%s</text>`, s.x(when), bottom+16, class, round(when))
	}
	b.WriteString("</svg>")
	return template.HTML(b.String()) // made of numbers and escaped names
}

func barLabel(o *history.Op) string {
	if o.Outcome == history.Done && o.Number > 0 {
		return fmt.Sprintf("%s %d", o.Kind, o.Number)
	}
	return string(o.Kind)
}

func faultLabel(f history.Fault) string {
	if len(f.Nodes) == 0 {
		return f.Name
	}
	return fmt.Sprintf("%s, nodes %v", f.Name, f.Nodes)
}
