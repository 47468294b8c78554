package relay

import (
	"io"
	"net"
	"testing"
	"time"
)

func listener(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestAnAnswerArrivesAfterTheQuestionHasEnded(t *testing.T) {
	server, front := listener(t), listener(t)
	go func() {
		conn, err := server.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		question, _ := io.ReadAll(conn) // to the end of the question's direction
		_, _ = conn.Write(append([]byte("re: "), question...))
	}()
	go Serve(front, func() (net.Conn, error) { return net.Dial("tcp", server.Addr().String()) })
	conn, err := net.Dial("tcp", front.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if answer, err := io.ReadAll(conn); err != nil || string(answer) != "re: hello" {
		t.Errorf("the answer is %q (%v)", answer, err)
	}
}

func TestAConnectionWhoseTargetIsGoneIsClosed(t *testing.T) {
	gone, front := listener(t), listener(t)
	gone.Close()
	go Serve(front, func() (net.Conn, error) { return net.Dial("tcp", gone.Addr().String()) })
	conn, err := net.Dial("tcp", front.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("read %d bytes (%v)", n, err)
	}
}
