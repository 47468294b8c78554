package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/e2e/cluster/internal/layout"
	"slipway.dev/e2e/cluster/internal/node"
	"slipway.dev/e2e/cluster/internal/progress"
	"slipway.dev/e2e/cluster/internal/relay"
)

// SetGPUs makes the node offer count GPUs, and waits until it does.
func SetGPUs(ctx context.Context, cluster layout.Cluster, count int64, report *progress.Report) error {
	if count < 0 {
		return fmt.Errorf("a node cannot offer %d GPUs; give 0 or more", count)
	}
	if _, err := NodePID(cluster); err != nil {
		return err
	}
	client, err := Client(cluster)
	if err != nil {
		return err
	}
	if err := os.WriteFile(cluster.Path(node.GPUFile), []byte(strconv.FormatInt(count, 10)+"\n"), 0o644); err != nil {
		return fmt.Errorf("recording the number of GPUs: %w", err)
	}
	return report.Do(fmt.Sprintf("the node to offer %d %s", count, layout.GPUResource), func() error {
		return poll(ctx, cluster, func(ctx context.Context) error {
			current, err := client.CoreV1().Nodes().Get(ctx, cluster.Name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			offered := current.Status.Allocatable[layout.GPUResource]
			if offered.Value() != count {
				return fmt.Errorf("it offers %s", offered.String())
			}
			return nil
		})
	})
}

// Restart ends a component, which the node then starts again.
func Restart(cluster layout.Cluster, name string) error {
	components, err := Components(cluster)
	if err != nil {
		return err
	}
	if len(components) == 0 {
		return ErrNotRunning
	}
	var names []string
	for _, component := range components {
		if component.Name == name {
			return syscall.Kill(component.PID, syscall.SIGTERM)
		}
		names = append(names, component.Name)
	}
	return fmt.Errorf("there is no component %q; there are %v", name, names)
}

// OpenLog opens a component's log.
func OpenLog(cluster layout.Cluster, component string) (*os.File, error) {
	f, err := os.Open(cluster.Log(component))
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	entries, err := os.ReadDir(cluster.Path("logs"))
	if err != nil {
		return nil, ErrNotRunning
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name()[:len(entry.Name())-len(".log")])
	}
	return nil, fmt.Errorf("there is no log of %q; there are logs of %v", component, names)
}

// Forward carries connections until ctx ends or the cluster does: from listen on this machine to target inside the
// node, or, with reverse, from listen inside the node to target on this machine. It calls ready with the address it
// listens at. Both addresses are numeric, HOST:PORT.
func Forward(ctx context.Context, cluster layout.Cluster, listen, target string, reverse bool, ready func(net.Addr)) error {
	pid, err := NodePID(cluster)
	if err != nil {
		return err
	}
	for _, address := range []string{listen, target} {
		host, _, err := net.SplitHostPort(address)
		if err != nil || net.ParseIP(host) == nil {
			return fmt.Errorf("%q is no address; write it as IP:PORT, such as 127.0.0.1:8090", address)
		}
	}
	open := func() (net.Listener, error) { return net.Listen("tcp", listen) }
	dial := func() (net.Conn, error) { return relay.DialIn(pid, target) }
	var listener net.Listener
	if reverse {
		listener, err = relay.InNetworkOf(pid, open)
		dial = func() (net.Conn, error) { return net.Dial("tcp", target) }
	} else {
		listener, err = open()
	}
	if err != nil {
		return fmt.Errorf("listening at %s: %w", listen, err)
	}
	ready(listener.Addr())
	go func() {
		// Sockets in the node's namespace would keep it in being after `down`.
		for ctx.Err() == nil {
			if current, err := NodePID(cluster); err != nil || current != pid {
				break
			}
			select {
			case <-ctx.Done():
			case <-time.After(500 * time.Millisecond):
			}
		}
		listener.Close()
	}()
	relay.Serve(listener, dial)
	if ctx.Err() == nil {
		return errors.New("the cluster has ended")
	}
	return nil
}
