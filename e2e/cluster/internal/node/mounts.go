package node

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"slipway.dev/e2e/cluster/internal/layout"
)

// mountOwn gives the node its own view of the file system. state is the host's path of the state directory.
//
// The kubelet, containerd and CNI have paths of theirs compiled in (/var/lib/kubelet, /var/lib/cni, /var/log/containers,
// /run/containerd), so those folders become the node's own. Nothing of this is seen outside the mount namespace.
func mountOwn(state string) error {
	// Private first: else the mounts below would travel to the host.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making the mounts private: %w", err)
	}
	// The state directory may lie under one of the folders that are about to be covered; /mnt holds it meanwhile.
	const aside = "/mnt"
	if err := unix.Mount(state, aside, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("binding the state directory: %w", err)
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return fmt.Errorf("mounting /run: %w", err)
	}
	if err := os.Mkdir(layout.NodeState, 0o755); err != nil {
		return fmt.Errorf("making %s: %w", layout.NodeState, err)
	}
	if err := unix.Mount(aside, layout.NodeState, "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("moving the state directory: %w", err)
	}
	for _, folder := range []string{"/var/lib", "/var/log"} {
		own := filepath.Join(layout.NodeState, "root", folder)
		if err := os.MkdirAll(own, 0o755); err != nil {
			return fmt.Errorf("making the node's %s: %w", folder, err)
		}
		if err := unix.Mount(own, folder, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mounting the node's %s: %w", folder, err)
		}
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	// Shared within the node: the kubelet's mounts have to reach containers.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("making the mounts shared: %w", err)
	}
	return nil
}

// snapshotter names containerd's storage: overlayfs, or native where overlayfs cannot lie on the state directory's
// file system (itself an overlay, as in a container).
func snapshotter() string {
	base := filepath.Join(layout.NodeState, "overlay-trial")
	defer os.RemoveAll(base)
	paths := map[string]string{}
	for _, part := range []string{"lower", "upper", "work", "merged"} {
		paths[part] = filepath.Join(base, part)
		if os.MkdirAll(paths[part], 0o755) != nil {
			return "native"
		}
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", paths["lower"], paths["upper"], paths["work"])
	if unix.Mount("overlay", paths["merged"], "overlay", 0, options) != nil {
		return "native"
	}
	if unix.Unmount(paths["merged"], 0) != nil {
		return "native"
	}
	return "overlayfs"
}
