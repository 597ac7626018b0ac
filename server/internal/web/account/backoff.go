package account

import "time"

// backoff limits attempts by key: the first few are free, and each later one
// has to wait longer, up to a maximum, so that no one is locked out for long. A
// key without attempts is forgotten after a while. Each process counts
// separately. Not safe for concurrent use.
type backoff struct {
	free      int
	base, max time.Duration // of the wait after the last free attempt, and after many
	forget    time.Duration
	now       func() time.Time

	keys map[string]*slowed
}

type slowed struct {
	n    int
	last time.Time // attempt that was allowed
	next time.Time // when another may be made
}

// wait is how long an attempt with a key has to wait; 0 allows it.
func (b *backoff) wait(key string) time.Duration {
	k := b.keys[key]
	if k == nil || b.now().Sub(k.last) >= b.forget {
		return 0
	}
	return max(0, k.next.Sub(b.now()))
}

// count counts an allowed attempt, before it is made, and returns how many that
// makes.
func (b *backoff) count(key string) int {
	now := b.now()
	k := b.keys[key]
	if k == nil || now.Sub(k.last) >= b.forget {
		if k == nil && len(b.keys) >= limiterKeys {
			b.makeRoom(now)
		}
		k = &slowed{}
		if b.keys == nil {
			b.keys = make(map[string]*slowed)
		}
		b.keys[key] = k
	}
	k.n++
	k.last = now
	if over := k.n - b.free; over >= 0 {
		k.next = now.Add(min(b.max, b.base<<min(over, 20)))
	}
	return k.n
}

// giveBack uncounts an attempt that succeeded.
func (b *backoff) giveBack(key string) {
	if k := b.keys[key]; k != nil {
		if k.n--; k.n < b.free {
			k.next = time.Time{}
		}
		if k.n <= 0 {
			delete(b.keys, key)
		}
	}
}

// clear forgets a key.
func (b *backoff) clear(key string) { delete(b.keys, key) }

// makeRoom drops what is to be forgotten and, where that is nothing, the key that
// was tried longest ago.
func (b *backoff) makeRoom(now time.Time) {
	oldest, at := "", now
	for key, k := range b.keys {
		if now.Sub(k.last) >= b.forget {
			delete(b.keys, key)
		} else if !k.last.After(at) {
			oldest, at = key, k.last
		}
	}
	if len(b.keys) >= limiterKeys {
		delete(b.keys, oldest)
	}
}
