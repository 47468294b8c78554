package node

import (
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"slipway.dev/e2e/cluster/internal/layout"
)

// restartDelay keeps a program that fails at once from spinning.
const restartDelay = time.Second

// supervisor starts the node's programs, starts them again when they end, and collects every dead process of the
// node, being its process 1. For that reason nothing in the node may use exec.Cmd's own Wait.
type supervisor struct {
	cluster layout.Cluster
	mu      sync.Mutex
	exits   map[int]chan syscall.WaitStatus
}

func newSupervisor(cluster layout.Cluster) *supervisor {
	s := &supervisor{cluster: cluster, exits: map[int]chan syscall.WaitStatus{}}
	go s.reap()
	return s
}

// reap waits for any child for ever.
func (s *supervisor) reap() {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		if errors.Is(err, syscall.ECHILD) {
			time.Sleep(50 * time.Millisecond)
			continue
		}
		if err != nil {
			continue
		}
		s.mu.Lock()
		exit, ours := s.exits[pid]
		delete(s.exits, pid)
		s.mu.Unlock()
		if ours {
			exit <- status
		}
	}
}

// start runs a program with its output in the component's log, and returns where its exit status will come.
func (s *supervisor) start(component, path string, args []string) (<-chan syscall.WaitStatus, error) {
	output, err := os.OpenFile(s.cluster.Log(component), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening the log of %s: %w", component, err)
	}
	defer output.Close()
	cmd := &exec.Cmd{Path: path, Args: append([]string{component}, args...), Stdout: output, Stderr: output, Dir: "/"}
	exit := make(chan syscall.WaitStatus, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", component, err)
	}
	s.exits[cmd.Process.Pid] = exit
	return exit, nil
}

// own is this very program, whatever has become of its file.
const own = "/proc/self/exe"

// keep starts a program and starts it again whenever it ends.
func (s *supervisor) keep(component, path string, args ...string) {
	go func() {
		for {
			exit, err := s.start(component, path, args)
			if err != nil {
				log.Print(err)
			} else {
				log.Printf("%s started", component)
				log.Printf("%s ended with %s and is started again", component, describe(<-exit))
			}
			time.Sleep(restartDelay)
		}
	}()
}

// run runs a program to its end and fails when it does.
func (s *supervisor) run(component, path string, args ...string) error {
	exit, err := s.start(component, path, args)
	if err != nil {
		return err
	}
	if status := <-exit; status.ExitStatus() != 0 {
		return fmt.Errorf("%s ended with %s; see its log", component, describe(status))
	}
	return nil
}

func describe(status syscall.WaitStatus) string {
	if status.Signaled() {
		return "signal " + status.Signal().String()
	}
	return fmt.Sprintf("exit code %d", status.ExitStatus())
}
