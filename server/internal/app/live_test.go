package app

import (
	"testing"

	"github.com/hedgerow/hedgerow/event"
)

func TestLive(t *testing.T) {
	var l live
	a, stopA := l.subscribe("a")
	b, stopB := l.subscribe("b")
	l.publish([]*event.Event{{ProjectID: "a"}, {ProjectID: "a"}})
	l.publish([]*event.Event{{ProjectID: "a"}}) // without a reader it must not wait
	if len(a) != 1 || len(b) != 0 {
		t.Errorf("%d words for a, %d for b; want 1 and 0", len(a), len(b))
	}
	<-a
	stopA()
	l.publish([]*event.Event{{ProjectID: "a"}, {ProjectID: "b"}})
	if len(a) != 0 || len(b) != 1 {
		t.Errorf("%d words for a, %d for b; want 0 and 1", len(a), len(b))
	}
	<-b
	l.close()
	if _, ok := <-b; ok {
		t.Error("closing did not end the stream")
	}
	stopB()
	if c, _ := l.subscribe("b"); !closed(c) {
		t.Error("a stream that begins after the end does not end")
	}
	l.publish([]*event.Event{{ProjectID: "b"}})
	l.close()
}

func closed(c <-chan struct{}) bool {
	select {
	case _, ok := <-c:
		return !ok
	default:
		return false
	}
}
