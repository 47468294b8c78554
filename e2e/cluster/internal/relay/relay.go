// Package relay carries TCP connections between the host's network namespace and a node's.
package relay

import (
	"errors"
	"io"
	"log"
	"net"
	"sync"
	"time"
)

// Serve carries every connection that listener accepts to a connection of dial's, until the listener is closed.
func Serve(listener net.Listener, dial func() (net.Conn, error)) {
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			log.Printf("accepting a connection: %v", err)
			time.Sleep(100 * time.Millisecond)
			continue
		}
		go carry(conn, dial)
	}
}

// carry copies both ways. The end of one direction is passed on alone: the other may still have an answer under way.
func carry(conn net.Conn, dial func() (net.Conn, error)) {
	defer conn.Close()
	target, err := dial()
	if err != nil {
		return
	}
	defer target.Close()
	var both sync.WaitGroup
	both.Add(2)
	copyHalf := func(to, from net.Conn) {
		defer both.Done()
		_, _ = io.Copy(to, from)
		if half, ok := to.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
	}
	go copyHalf(target, conn)
	go copyHalf(conn, target)
	both.Wait()
}
