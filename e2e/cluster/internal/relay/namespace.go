package relay

import (
	"fmt"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// InNetworkOf calls open in the network namespace of the process pid. A socket stays in the namespace where it was
// opened, so what open returns can be used from anywhere.
func InNetworkOf[T any](pid int, open func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	results := make(chan result, 1)
	go func() {
		// Never unlocked: the thread ends with this goroutine, and nothing else runs in the other namespace.
		runtime.LockOSThread()
		var r result
		if r.err = enterNetwork(pid); r.err == nil {
			r.value, r.err = open()
		}
		results <- r
	}()
	r := <-results
	return r.value, r.err
}

func enterNetwork(pid int) error {
	namespace, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return fmt.Errorf("opening the node's network namespace: %w", err)
	}
	defer namespace.Close()
	if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("entering the node's network namespace: %w", err)
	}
	return nil
}

// DialIn connects to address in the network namespace of the process pid.
func DialIn(pid int, address string) (net.Conn, error) {
	return InNetworkOf(pid, func() (net.Conn, error) {
		// Without a name to resolve, net.Dial stays on this thread, and so in this namespace.
		target, err := net.ResolveTCPAddr("tcp", address)
		if err != nil {
			return nil, err
		}
		return net.DialTCP("tcp", nil, target)
	})
}
