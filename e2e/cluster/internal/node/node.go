// Package node is the inside of a cluster: process 1 of the node's namespaces, which starts the components of
// Kubernetes, keeps them running and keeps the cluster's own objects in place.
package node

import (
	"context"
	"fmt"
	"log"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"slipway.dev/e2e/cluster/internal/archive"
	"slipway.dev/e2e/cluster/internal/cgroup"
	"slipway.dev/e2e/cluster/internal/layout"
	"slipway.dev/e2e/cluster/internal/relay"
)

// ListenerFD is the file descriptor on which Run finds the host's listener for the API server.
const ListenerFD = 3

// ReadyFile is written into the state directory when the cluster's own objects and its DNS are there.
const ReadyFile = "ready"

// Run is the node. The caller has put the process into namespaces of its own (process ids, network, mounts, host
// name, System V IPC). It returns only when the node could not start.
func Run(host layout.Cluster) error {
	group := host.Cgroup()
	if err := cgroup.Named(group).Join(); err != nil {
		return err
	}
	if err := mountOwn(host.State); err != nil {
		return err
	}
	cluster := host.InNode()
	if err := unix.Sethostname([]byte(cluster.Name)); err != nil {
		return fmt.Errorf("setting the host name: %w", err)
	}
	if err := bringUpNetwork(); err != nil {
		return err
	}
	if err := serveAPI(); err != nil {
		return err
	}
	storage := snapshotter()
	log.Printf("containerd stores images with %s", storage)
	if err := writeConfig(cluster, group, storage); err != nil {
		return err
	}
	if err := archive.WritePause(cluster.Path("pause.tar")); err != nil {
		return err
	}

	s := newSupervisor(cluster)
	s.keep("etcd", own, etcdArgs(cluster)...)
	s.keep("containerd", "/usr/bin/containerd", "--config", cluster.Path("config", "containerd.toml"))
	s.keep("kube-apiserver", own, apiserverArgs(cluster)...)
	paused := make(chan error, 1)
	go func() { paused <- importPause(s, cluster) }()

	client, err := newClient(cluster)
	if err != nil {
		return err
	}
	ctx := context.Background()
	waitForAPI(ctx, client)
	if err := <-paused; err != nil {
		return err
	}
	s.keep("kubelet", own, kubeletArgs(cluster)...)
	s.keep("kube-controller-manager", own, controllerManagerArgs(cluster)...)
	s.keep("kube-scheduler", own, schedulerArgs(cluster)...)
	s.keep("kube-proxy", own, proxyArgs(cluster)...)
	s.keep("coredns", own, cluster.Path("config", "Corefile"))
	s.keep("volume-provisioner", own, cluster.Path("pki", "admin.conf"), cluster.Path("volumes"))

	if err := applyAddons(ctx, client); err != nil {
		return err
	}
	waitForDNS()
	if err := os.WriteFile(cluster.Path(ReadyFile), nil, 0o644); err != nil {
		return fmt.Errorf("recording readiness: %w", err)
	}
	keepGPUs(ctx, client, cluster)
	return nil
}

// serveAPI relays the host's listener, which the caller handed over, to the API server.
func serveAPI() error {
	file := os.NewFile(ListenerFD, "api listener")
	listener, err := net.FileListener(file)
	if err != nil {
		return fmt.Errorf("taking over the API's listener: %w", err)
	}
	file.Close()
	go relay.Serve(listener, func() (net.Conn, error) {
		return net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", layout.APIPort))
	})
	return nil
}

func newClient(cluster layout.Cluster) (*kubernetes.Clientset, error) {
	config, err := clientcmd.BuildConfigFromFlags("", cluster.Path("pki", "admin.conf"))
	if err != nil {
		return nil, fmt.Errorf("reading the node's kubeconfig: %w", err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("making the node's client: %w", err)
	}
	return client, nil
}

// importPause gives containerd the sandbox image as soon as containerd answers.
func importPause(s *supervisor, cluster layout.Cluster) error {
	for !answers("unix", layout.ContainerdSocket) {
		time.Sleep(100 * time.Millisecond)
	}
	if err := s.run("pause-import", "/usr/bin/ctr", "--address", layout.ContainerdSocket, "--namespace", "k8s.io",
		"images", "import", cluster.Path("pause.tar")); err != nil {
		return fmt.Errorf("importing the sandbox image: %w", err)
	}
	return nil
}

func answers(network, address string) bool {
	conn, err := net.DialTimeout(network, address, time.Second)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

func waitForAPI(ctx context.Context, client kubernetes.Interface) {
	for client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error() != nil {
		time.Sleep(100 * time.Millisecond)
	}
	log.Print("the API server is ready")
}
