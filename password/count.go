package password

import (
	"errors"
	"maps"
	"math/big"
	"slices"
)

// counts is how many ways there are to end a password, by what is still missing.
//
// Characters that belong to the same rules are alike: they form a class. A state says
// how many characters each rule still wants; it is a number in a mixed base, with a
// digit for each rule. ways[n][s] is how many strings of n characters satisfy what
// state s wants.
type counts struct {
	classes []class
	ways    [][]*big.Int
	start   int // the state in which nothing was chosen
}

// class is the characters that belong to the same rules.
type class struct {
	runes []rune
	size  *big.Int
	next  []int // by state: the state after one of them
}

// maxSteps bounds length times states times classes, and with it the time that a policy
// takes: about a tenth of a second.
const maxSteps = 1 << 19

// errNone: no password satisfies the policy.
var errNone = errors.New("no password satisfies it: the rules want more characters than it has")

func count(length int, rules []rule) (*counts, error) {
	states, classes := 1, classesOf(rules)
	for _, r := range rules {
		if states *= r.least + 1; states*length*len(classes) > maxSteps {
			return nil, errors.New("its rules ask for too many combinations; lower min-chars, or use fewer rules")
		}
	}
	c := &counts{start: states - 1}
	for _, runes := range classes {
		c.classes = append(c.classes, class{runes: runes, size: big.NewInt(int64(len(runes))), next: after(runes[0], rules, states)})
	}
	zero := make([]*big.Int, states) // of strings without characters, one fits where nothing is wanted
	for s := range zero {
		zero[s] = new(big.Int)
	}
	zero[0].SetInt64(1)
	c.ways = append(c.ways, zero)
	for n := 1; n <= length; n++ {
		row := make([]*big.Int, states)
		for s := range row {
			row[s] = new(big.Int)
			for _, x := range c.classes {
				row[s].Add(row[s], new(big.Int).Mul(x.size, c.ways[n-1][x.next[s]]))
			}
		}
		c.ways = append(c.ways, row)
	}
	if c.all().Sign() == 0 {
		return nil, errNone
	}
	return c, nil
}

// classesOf sorts all characters by the rules that they belong to.
func classesOf(rules []rule) [][]rune {
	member := map[rune]uint64{}
	for i, r := range rules {
		for _, c := range r.charset {
			member[c] |= 1 << i
		}
	}
	classes := map[uint64][]rune{}
	for _, c := range slices.Sorted(maps.Keys(member)) {
		classes[member[c]] = append(classes[member[c]], c)
	}
	var all [][]rune
	for _, m := range slices.Sorted(maps.Keys(classes)) {
		all = append(all, classes[m])
	}
	return all
}

// after is the state that follows each one when c is chosen.
func after(c rune, rules []rule, states int) []int {
	next := make([]int, states)
	for s := range next {
		to, place, rest := 0, 1, s
		for _, r := range rules {
			wanted := rest % (r.least + 1)
			rest /= r.least + 1
			if wanted > 0 && r.has(c) {
				wanted--
			}
			to += wanted * place
			place *= r.least + 1
		}
		next[s] = to
	}
	return next
}

// all is how many passwords there are.
func (c *counts) all() *big.Int { return c.ways[len(c.ways)-1][c.start] }

// at is password number n, which it changes, of all passwords in some order.
func (c *counts) at(n *big.Int) []rune {
	var runes []rune
	state := c.start
	for left := len(c.ways) - 2; left >= 0; left-- {
		for _, x := range c.classes {
			each := c.ways[left][x.next[state]]
			block := new(big.Int).Mul(x.size, each)
			if n.Cmp(block) >= 0 {
				n.Sub(n, block)
				continue
			}
			which, rest := new(big.Int).QuoRem(n, each, new(big.Int))
			runes = append(runes, x.runes[which.Int64()])
			n, state = rest, x.next[state]
			break
		}
	}
	return runes
}
