package database

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"sync"
	"time"
)

// pools are the connections of a node, by what it takes to make them: whoever changes a
// config uses another pool, and the old one is closed when it is idle. The zero value is
// ready.
type pools struct {
	mu     sync.Mutex
	open   map[string]*pool
	closed bool
}

type pool struct {
	Connection
	// guarded by pools.mu
	users int
	since time.Time   // unused since
	timer *time.Timer // closes it; nil while it is in use
}

// maxPools is how many pools are open at once, apart from those in use.
const maxPools = 64

// poolKey names the pool of a config of a mount. It tells nothing of the password.
func poolKey(mountID, name string, c *config, s Settings) string {
	named := struct {
		Mount, Name, Password string
		Config                config
	}{mountID, name, string(s.Password.Expose()), *c}
	named.Config.Password, named.Config.Next = "", "" // the password that counts is the one used
	text, err := json.Marshal(named)
	if err != nil {
		panic("database: a config cannot be encoded: " + err.Error())
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// take returns the pool of key, which open makes if there is none.
func (p *pools) take(key string, open func() (Connection, error)) (*pool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if found := p.open[key]; found != nil {
		if found.timer != nil {
			found.timer.Stop()
			found.timer = nil
		}
		found.users++
		return found, nil
	}
	c, err := open() // connects to nothing yet
	if err != nil {
		return nil, err
	}
	if len(p.open) >= maxPools {
		p.evict()
	}
	if p.open == nil {
		p.open = map[string]*pool{}
	}
	made := &pool{Connection: c, users: 1}
	p.open[key] = made
	return made, nil
}

// put ends a use. A pool that stays unused for idle is closed.
func (p *pools) put(key string, used *pool, idle time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if used.users--; used.users > 0 {
		return
	}
	if p.closed {
		p.remove(key, used)
		return
	}
	used.since = time.Now()
	used.timer = time.AfterFunc(idle, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if used.users == 0 && p.open[key] == used {
			p.remove(key, used)
		}
	})
}

// evict closes the pool that is unused for the longest time. Called with mu held.
func (p *pools) evict() {
	var oldest string
	for key, o := range p.open {
		if o.users == 0 && (oldest == "" || o.since.Before(p.open[oldest].since)) {
			oldest = key
		}
	}
	if oldest != "" {
		p.remove(oldest, p.open[oldest])
	}
}

// remove closes a pool, aside: that may wait for the network. Called with mu held.
func (p *pools) remove(key string, unused *pool) {
	if unused.timer != nil {
		unused.timer.Stop()
	}
	delete(p.open, key)
	go unused.Close()
}

func (p *pools) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for key, o := range p.open {
		if o.users == 0 {
			p.remove(key, o)
		}
	}
}
