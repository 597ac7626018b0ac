package journal

import "time"

// State that lets a queue's acknowledgments and deliveries survive a fault of the
// store: JetStream writes acknowledgments asynchronously, so a server that cannot
// write loses the last ones. This process keeps them.

// handOut records that a message is being processed, and reports whether to deliver
// it: not if it is still being processed since before a restart of the store, in
// which case that result counts for this delivery. Without a result it is
// redelivered after AckWait.
func (j *Journal) handOut(key partKey, l *instance) bool {
	j.partsMu.Lock()
	defer j.partsMu.Unlock()
	was, inHand := j.out[key]
	for old := range j.out {
		if inHand || len(j.out) < maxParts {
			break
		}
		delete(j.out, old)
	}
	if j.out == nil {
		j.out = make(map[partKey]*instance)
	}
	j.out[key] = l
	return !inHand || was == l
}

func (j *Journal) handedBack(key partKey) {
	j.partsMu.Lock()
	defer j.partsMu.Unlock()
	delete(j.out, key)
}

// recentAcks are a queue's most recent acknowledgments, oldest first.
type recentAcks struct {
	keys []partKey
	at   []time.Time
}

const (
	recentFor = 10 * time.Second // longer than JetStream takes to write a cursor
	maxRecent = 16 << 10
)

// acknowledged records that the store has acknowledged a message.
func (j *Journal) acknowledged(key partKey) {
	j.partsMu.Lock()
	defer j.partsMu.Unlock()
	delete(j.out, key)
	delete(j.ended, key)
	r := j.recent[key.queue]
	if r == nil {
		r = new(recentAcks)
		if j.recent == nil {
			j.recent = make(map[string]*recentAcks)
		}
		j.recent[key.queue] = r
	}
	now := time.Now()
	if len(r.keys) >= maxRecent || len(r.keys) > 64 && now.Sub(r.at[len(r.at)/2]) > recentFor {
		r.keys = append(r.keys[:0], r.keys[len(r.keys)/2:]...)
		r.at = append(r.at[:0], r.at[len(r.at)/2:]...)
	}
	r.keys, r.at = append(r.keys, key), append(r.at, now)
}

// recall assumes that the last acknowledgements of an instance that failed did not
// arrive.
func (j *Journal) recall() {
	j.partsMu.Lock()
	defer j.partsMu.Unlock()
	for _, r := range j.recent {
		for i, key := range r.keys {
			if time.Since(r.at[i]) < 2*recentFor {
				j.rememberLocked(key)
			}
		}
	}
	clear(j.recent)
}

// remember records that a message has ended without the store knowing it.
func (j *Journal) remember(key partKey) {
	j.partsMu.Lock()
	defer j.partsMu.Unlock()
	delete(j.out, key)
	j.rememberLocked(key)
}

func (j *Journal) rememberLocked(key partKey) {
	for old := range j.ended {
		if len(j.ended) < 2*maxParts {
			break
		}
		delete(j.ended, old)
	}
	if j.ended == nil {
		j.ended = make(map[partKey]bool)
	}
	j.ended[key] = true
}

// endedBefore reports whether a message was passed to remember.
func (j *Journal) endedBefore(key partKey) bool {
	j.partsMu.Lock()
	defer j.partsMu.Unlock()
	return j.ended[key]
}
