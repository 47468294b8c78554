package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"slipway.dev/e2e/cluster/internal/cgroup"
	"slipway.dev/e2e/cluster/internal/layout"
	"slipway.dev/e2e/cluster/internal/node"
	"slipway.dev/e2e/cluster/internal/pki"
	"slipway.dev/e2e/cluster/internal/progress"
)

// startTimeout is how long each wait of a start may take; with idle processors all of them take 15 s together.
const startTimeout = 3 * time.Minute

// NodeCommand is the argument with which this program is the node.
const NodeCommand = "node"

// portFile keeps the API's port over a rebuild, so that a kubeconfig's address stays.
const portFile = "port"

// Up starts the cluster, or waits until one that is starting is ready, or does nothing.
func Up(ctx context.Context, cluster layout.Cluster, report *progress.Report) error {
	if err := CheckMachine(); err != nil {
		return err
	}
	unlock, err := Lock(cluster)
	if err != nil {
		return err
	}
	defer unlock()
	if err := checkOurs(cluster); err != nil {
		return err
	}
	if !whole(cluster) {
		if err := start(cluster, report); err != nil {
			return err
		}
	}
	if err := waitReady(ctx, cluster, report); err != nil {
		return err
	}
	if isOlderBuild(cluster) {
		fmt.Fprintln(report.Out, "the cluster runs another build of slipway-cluster than this; `slipway-cluster down` and `up` renew it")
	}
	return nil
}

// isOlderBuild tells whether the node was started from another file than this program.
func isOlderBuild(cluster layout.Cluster) bool {
	pid, err := NodePID(cluster)
	if err != nil {
		return false
	}
	running, err := os.Stat(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return false
	}
	this, err := os.Stat("/proc/self/exe")
	return err == nil && !os.SameFile(running, this)
}

// whole tells whether the node runs and the files are there with which it is used. Anything less is rebuilt: what is
// left of a machine that was switched off, of a start that was interrupted, of a directory that was removed.
func whole(cluster layout.Cluster) bool {
	if _, err := NodePID(cluster); err != nil {
		return false
	}
	for _, path := range []string{cluster.Path(marker), cluster.Kubeconfig(), cluster.Path("pki", "ca.crt"), cluster.Path("etcd")} {
		if _, err := os.Stat(path); err != nil {
			return false
		}
	}
	return true
}

func start(cluster layout.Cluster, report *progress.Report) error {
	group := cgroup.Named(cluster.Cgroup())
	previousPort, _ := os.ReadFile(cluster.Path(portFile))
	if err := report.Do("remains of an earlier start to be gone", func() error { return Down(cluster) }); err != nil {
		return err
	}
	if err := os.MkdirAll(cluster.Path("logs"), 0o755); err != nil {
		return fmt.Errorf("making the state directory: %w", err)
	}
	if err := os.WriteFile(cluster.Path(marker), nil, 0o644); err != nil {
		return fmt.Errorf("marking the state directory: %w", err)
	}
	if err := os.MkdirAll(cluster.Path("etcd"), 0o700); err != nil {
		return fmt.Errorf("making etcd's directory: %w", err)
	}
	if err := linkPrograms(cluster); err != nil {
		return err
	}
	listener, err := listen(strings.TrimSpace(string(previousPort)))
	if err != nil {
		return err
	}
	defer listener.Close()
	port := listener.Addr().(*net.TCPAddr).Port
	if err := os.WriteFile(cluster.Path(portFile), []byte(strconv.Itoa(port)+"\n"), 0o644); err != nil {
		return fmt.Errorf("recording the API's port: %w", err)
	}
	if err := pki.Write(cluster, port); err != nil {
		return err
	}
	if err := group.Create(); err != nil {
		return err
	}
	return launch(cluster, listener)
}

// linkPrograms puts kubectl into STATE/bin: this program under that name.
func linkPrograms(cluster layout.Cluster) error {
	if err := os.MkdirAll(cluster.Path("bin"), 0o755); err != nil {
		return fmt.Errorf("making the programs' directory: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	if err := os.Symlink(self, cluster.Path("bin", "kubectl")); err != nil {
		return fmt.Errorf("linking kubectl: %w", err)
	}
	return nil
}

// listen opens the port that the API is reached at: the one it had, where that is free, or any other.
func listen(previousPort string) (*net.TCPListener, error) {
	ports := []string{"0"}
	if previousPort != "" {
		ports = []string{previousPort, "0"}
	}
	var err error
	for _, port := range ports {
		var listener net.Listener
		if listener, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", port)); err == nil {
			return listener.(*net.TCPListener), nil
		}
	}
	return nil, fmt.Errorf("opening a port for the API: %w", err)
}

// launch starts the node in namespaces of its own. It outlives this process.
func launch(cluster layout.Cluster, listener *net.TCPListener) error {
	log, err := os.OpenFile(cluster.Log(NodeCommand), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("opening the node's log: %w", err)
	}
	defer log.Close()
	socket, err := listener.File()
	if err != nil {
		return fmt.Errorf("handing over the API's port: %w", err)
	}
	defer socket.Close()
	cmd := exec.Command("/proc/self/exe", NodeCommand, "--name", cluster.Name, "--state", cluster.State)
	cmd.Args[0] = "slipway-cluster"
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{socket}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid:     true,
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("making the node's namespaces: %w; root needs CAP_SYS_ADMIN and CAP_NET_ADMIN", err)
	}
	// The node counts as running once it is in its control group.
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if _, err := NodePID(cluster); err == nil {
			return cmd.Process.Release()
		}
		var status syscall.WaitStatus
		if pid, _ := syscall.Wait4(cmd.Process.Pid, &status, syscall.WNOHANG, nil); pid == cmd.Process.Pid {
			return fmt.Errorf("the node ended at once; the end of its log (%s):\n%s", cluster.Log(NodeCommand), tail(cluster.Log(NodeCommand), 10))
		}
	}
	return fmt.Errorf("the node has not started after 10 s; see %s", cluster.Log(NodeCommand))
}

// Client is a client of the cluster's API as people reach it.
func Client(cluster layout.Cluster) (*kubernetes.Clientset, error) {
	config, err := clientcmd.BuildConfigFromFlags("", cluster.Kubeconfig())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotRunning
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", cluster.Kubeconfig(), err)
	}
	config.Timeout = 5 * time.Second
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("making a client: %w", err)
	}
	return client, nil
}

// waitReady waits until pods can be created and looked up. Each wait is one line of the report.
func waitReady(ctx context.Context, cluster layout.Cluster, report *progress.Report) error {
	client, err := Client(cluster)
	if err != nil {
		return err
	}
	for _, wait := range []struct {
		what, component string
		check           func(context.Context) error
	}{
		{"the API server to answer", "kube-apiserver", func(ctx context.Context) error {
			return client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
		}},
		{"the node to be Ready", "kubelet", func(ctx context.Context) error { return nodeReady(ctx, client, cluster.Name) }},
		{"the default service account", "kube-controller-manager", func(ctx context.Context) error {
			_, err := client.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
			return err
		}},
		{"DNS and the storage class", "coredns", func(context.Context) error {
			_, err := os.Stat(cluster.Path(node.ReadyFile))
			return err
		}},
	} {
		err := report.Do(wait.what, func() error {
			return poll(ctx, cluster, func(ctx context.Context) error { return wait.check(ctx) })
		})
		if err != nil {
			return fmt.Errorf("waiting for %s: %w; see `slipway-cluster logs %s` and `slipway-cluster logs node`; `slipway-cluster down` clears up", wait.what, err, wait.component)
		}
	}
	return nil
}

// poll repeats check until it passes, the node ends or time is up.
func poll(ctx context.Context, cluster layout.Cluster, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		if _, gone := NodePID(cluster); gone != nil {
			return fmt.Errorf("the node has ended; the end of its log:\n%s", tail(cluster.Log(NodeCommand), 10))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not after %s: %w", startTimeout, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func nodeReady(ctx context.Context, client kubernetes.Interface, name string) error {
	current, err := client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, condition := range current.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			if condition.Status == corev1.ConditionTrue {
				return nil
			}
			return errors.New(condition.Message)
		}
	}
	return errors.New("the kubelet has not reported yet")
}

// tail is the last lines of a file, for an error message.
func tail(path string, lines int) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(content), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
