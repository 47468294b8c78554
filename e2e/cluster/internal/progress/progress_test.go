package progress

import (
	"bytes"
	"errors"
	"regexp"
	"testing"
	"time"
)

func TestOnlyAWaitWorthMentioningIsMentioned(t *testing.T) {
	var out bytes.Buffer
	report := &Report{Out: &out}
	if err := report.Do("nothing", func() error { return nil }); err != nil || out.Len() != 0 {
		t.Errorf("said %q (%v)", out.String(), err)
	}
	failure := errors.New("no")
	err := report.Do("the tide", func() error { time.Sleep(instant + 100*time.Millisecond); return failure })
	if !errors.Is(err, failure) || !regexp.MustCompile(`^waiting for the tide \.\.\. failed after 0\.[4-9] s\n$`).MatchString(out.String()) {
		t.Errorf("said %q (%v)", out.String(), err)
	}
}
