// Package progress tells people what a command waits for.
package progress

import (
	"fmt"
	"io"
	"time"
)

// instant is how long a step may take without being mentioned.
const instant = 300 * time.Millisecond

// Report writes one line for each wait: what it is for, and in the end how long it took.
type Report struct {
	Out io.Writer
}

// Do runs step. A step that takes longer than an instant is announced while it runs.
func (r *Report) Do(what string, step func() error) error {
	begin := time.Now()
	done := make(chan error, 1)
	go func() { done <- step() }()
	select {
	case err := <-done:
		return err
	case <-time.After(instant):
	}
	fmt.Fprintf(r.Out, "waiting for %s ...", what)
	err := <-done
	outcome := "done"
	if err != nil {
		outcome = "failed"
	}
	fmt.Fprintf(r.Out, " %s after %.1f s\n", outcome, time.Since(begin).Seconds())
	return err
}
