package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/health"
)

// standing is the journal's health. Call begin on its zero value first.
type standing struct {
	mu      sync.Mutex
	report  health.Report
	failure *event.Error // while the status is starting or failed
	changed chan struct{}
	notes   []note // why it is degraded although it works
}

// note is one reason for a journal that works to be degraded.
type note struct{ key, message, hint string }

var errStarting = event.NewError(event.CodeUnavailable, "the journal is starting", "send the event again in a moment", nil)

func (s *standing) begin(now time.Time) {
	s.report = health.Report{Component: "journal", Status: health.Starting, Message: "the journal is being opened", Since: now}
	s.failure, s.changed = errStarting, make(chan struct{})
}

// fail notes why the journal does not work, and reports whether that is news.
func (s *standing) fail(e *event.Error, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	news := s.report.Status != health.Failed || s.report.Message != e.Message
	if s.report.Status != health.Failed {
		s.report.Status, s.report.Since = health.Failed, now
	}
	s.report.Message, s.report.Hint, s.failure = e.Message, e.Hint, e
	s.wake()
	return news
}

// work notes that the journal works, and returns since when it had not, and
// whether it had failed.
func (s *standing) work(now time.Time, restarts int) (since time.Time, failed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	since, failed = s.report.Since, s.report.Status == health.Failed
	s.report = health.Report{Component: "journal", Status: health.OK, Since: now, Restarts: restarts}
	s.failure = nil
	s.wake()
	return since, failed
}

func (s *standing) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// wait returns a channel that is closed with the next change. Take it before
// looking.
func (s *standing) wait() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// note sets, or with an empty message removes, a reason for being degraded.
func (s *standing) note(n note) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.notes {
		if s.notes[i].key == n.key {
			if n.message == "" {
				s.notes = append(s.notes[:i:i], s.notes[i+1:]...)
			} else {
				s.notes[i] = n
			}
			return
		}
	}
	if n.message != "" {
		s.notes = append(s.notes, n)
	}
}

// Health returns the state of the journal, without blocking.
func (j *Journal) Health() health.Report {
	s := &j.standing
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.report
	if r.Status == health.OK && len(s.notes) > 0 {
		r.Status = health.Degraded
		var messages, hints []string
		for _, n := range s.notes {
			messages = append(messages, n.message)
			if n.hint != "" {
				hints = append(hints, n.hint)
			}
		}
		r.Message, r.Hint = strings.Join(messages, "; "), strings.Join(hints, "; ")
	}
	return r
}

// down is why the journal takes nothing at present.
func (j *Journal) down() *event.Error {
	if j.closing.Err() != nil {
		return errClosing
	}
	s := &j.standing
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure == nil { // it just recovered
		return errStarting
	}
	return s.failure
}

// fault is a kind of failure that users can fix.
type fault struct {
	errs    []error  // its errors
	words   []string // how it reads where an error comes as text only, from NATS's log
	message string   // with the folder for %s
	hint    string
}

// faults are tried in order.
var faults = []fault{
	{
		errs: []error{syscall.EMFILE, syscall.ENFILE}, words: []string{"too many open files"},
		message: "no file descriptor was left for the journal in %s",
		hint:    "raise the limit of open files of hedgerow's process (ulimit -n, LimitNOFILE= in systemd) or lower max_connections; recording resumes automatically as soon as descriptors are free",
	},
	{
		errs: []error{syscall.ENOSPC, syscall.EDQUOT}, words: []string{"no space left", "disk quota exceeded", "out of space", "resources, will be disabled"},
		message: "the disk of the journal in %s is full",
		hint:    "free disk space there or enlarge the disk; recording then resumes within seconds, and nothing acknowledged is lost",
	},
	{
		errs: []error{syscall.EROFS}, words: []string{"read-only file system"},
		message: "the file system of the journal in %s has become read-only",
		hint:    "the kernel does that after disk errors: check its log (dmesg), repair the disk and mount it for writing; recording then resumes automatically",
	},
	{
		errs: []error{syscall.EIO}, words: []string{"input/output error"},
		message: "the disk of the journal in %s reports an I/O error",
		hint:    "check the kernel's log (dmesg) and the disk's state (smartctl -a); if the disk is failing, move the data folder to another one. Recording resumes once it can be written",
	},
	{
		errs: []error{syscall.EFBIG}, words: []string{"file too large"},
		message: "a file of the journal in %s reached the limit of file sizes",
		hint:    "raise the limit of file sizes of hedgerow's process (ulimit -f, LimitFSIZE= in systemd); recording then resumes automatically",
	},
	{
		errs: []error{fs.ErrPermission}, words: []string{"permission denied", "operation not permitted"},
		message: "the journal in %s may not be written",
		hint:    "make the folder and its files belong to the user that runs hedgerow; recording then resumes automatically",
	},
}

// explain converts a failure to a user-facing error by its cause.
func (j *Journal) explain(err error) *event.Error {
	if e := (*event.Error)(nil); errors.As(err, &e) {
		return e
	}
	text := strings.ToLower(err.Error())
	for _, f := range faults {
		if !f.is(err, text) {
			continue
		}
		return event.NewError(event.CodeUnavailable, fmt.Sprintf(f.message, j.c.Dir), f.hint, err)
	}
	if j.c.NATSURL != "" {
		return event.NewError(event.CodeUnavailable, "the journal's NATS server could not be used", "check its address and credentials, that it runs with JetStream, and that the account may create streams; recording resumes automatically once it answers", err)
	}
	return event.NewError(event.CodeUnavailable, fmt.Sprintf("the journal in %s does not work", j.c.Dir), "hedgerow retries automatically; see its log for the cause", err)
}

func (f fault) is(err error, text string) bool {
	for _, e := range f.errs {
		if errors.Is(err, e) {
			return true
		}
	}
	for _, w := range f.words {
		if strings.Contains(text, w) {
			return true
		}
	}
	return false
}

// passing reports whether an error is caused by the machine's present state
// rather than by the files.
func passing(err error) bool {
	text := strings.ToLower(err.Error())
	for _, f := range faults {
		if f.is(err, text) {
			return true
		}
	}
	return false
}
