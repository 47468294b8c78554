// Package layout names the things that the host's side and the node's side of a cluster both use.
package layout

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
)

// Addresses inside the node's own network namespace. They are the same in every cluster: namespaces keep them apart.
const (
	NodeAddress    = "10.99.0.1"
	NodeNetwork    = NodeAddress + "/24"
	PodNetwork     = "10.244.0.0/16"
	ServiceNetwork = "10.96.0.0/16"
	APIServiceIP   = "10.96.0.1"
	DNSServiceIP   = "10.96.0.10"
	APIPort        = 6443
	ClusterDomain  = "cluster.local"
	// FrontProxy is how the apiserver calls itself at the servers of other APIs, such as one of metrics.
	FrontProxy = "front-proxy-client"
)

// NodeState is where the state directory appears inside the node, wherever it is on the host.
const NodeState = "/run/slipway"

// CNIPlugins is where Debian's containernetworking-plugins puts its programs.
const CNIPlugins = "/usr/lib/cni"

// ContainerdSocket is where containerd listens inside the node.
const ContainerdSocket = "/run/containerd/containerd.sock"

// PauseImage is the image of every pod's sandbox.
const PauseImage = "slipway.dev/pause:1"

// GPUResource is the extended resource that `gpu N` makes the node offer.
const GPUResource = "nvidia.com/gpu"

var validName = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,28}[a-z0-9])?$`)

// Cluster identifies one cluster on this machine by its name and its state directory.
type Cluster struct {
	// Name is also the node's name.
	Name string
	// State is the absolute directory that holds everything the cluster writes.
	State string
}

// New returns the cluster called name. An empty state means CacheDir()/cluster/NAME.
// It fails when the name is no DNS label of at most 30 characters.
func New(name, state string) (Cluster, error) {
	if !validName.MatchString(name) {
		return Cluster{}, fmt.Errorf("%q cannot name a cluster: use lower-case letters, digits and dashes, starting with a letter, at most 30 characters", name)
	}
	if state == "" {
		cache, err := CacheDir()
		if err != nil {
			return Cluster{}, err
		}
		state = filepath.Join(cache, "cluster", name)
	}
	state, err := filepath.Abs(state)
	if err != nil {
		return Cluster{}, fmt.Errorf("finding the state directory: %w", err)
	}
	return Cluster{Name: name, State: state}, nil
}

// CacheDir is $SLIPWAY_CACHE, or ~/.cache/slipway.
func CacheDir() (string, error) {
	if dir := os.Getenv("SLIPWAY_CACHE"); dir != "" {
		return dir, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("finding the cache directory: %w; set SLIPWAY_CACHE to a directory", err)
	}
	return filepath.Join(home, ".cache", "slipway"), nil
}

// Path joins elements to the state directory.
func (c Cluster) Path(elements ...string) string {
	return filepath.Join(append([]string{c.State}, elements...)...)
}

// Kubeconfig is the file with which clients on this machine reach the API server.
func (c Cluster) Kubeconfig() string { return c.Path("kubeconfig") }

// Log is the file that a component writes to.
func (c Cluster) Log(component string) string { return c.Path("logs", component+".log") }

// Cgroup is the name of the cluster's control group. It follows from name and state directory alone, so that a
// cluster's processes are found even when its state directory is gone.
func (c Cluster) Cgroup() string {
	sum := sha256.Sum256([]byte(c.State))
	return "slipway-" + c.Name + "-" + hex.EncodeToString(sum[:4])
}

// InNode is the same cluster as seen from inside the node.
func (c Cluster) InNode() Cluster { return Cluster{Name: c.Name, State: NodeState} }
