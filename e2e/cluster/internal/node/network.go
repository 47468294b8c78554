package node

import (
	"fmt"
	"net"
	"os"

	"github.com/vishvananda/netlink"

	"slipway.dev/e2e/cluster/internal/layout"
)

// bringUpNetwork makes the node's network: loopback, and a bridge without ports that carries the node's address.
// There is no way out to the host or beyond.
func bringUpNetwork() error {
	loopback, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("finding the loopback interface: %w", err)
	}
	if err := netlink.LinkSetUp(loopback); err != nil {
		return fmt.Errorf("bringing up the loopback interface: %w", err)
	}
	// A bridge rather than a dummy device: small kernels lack the latter.
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "node0"}}
	if err := netlink.LinkAdd(bridge); err != nil {
		return fmt.Errorf("adding the node's interface: %w", err)
	}
	address, err := netlink.ParseAddr(layout.NodeNetwork)
	if err != nil {
		return fmt.Errorf("reading the node's address: %w", err)
	}
	if err := netlink.AddrAdd(bridge, address); err != nil {
		return fmt.Errorf("setting the node's address: %w", err)
	}
	if err := netlink.LinkSetUp(bridge); err != nil {
		return fmt.Errorf("bringing up the node's interface: %w", err)
	}
	// Components find their own address by the default route, and services are reached only where some route matches.
	everything := &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: bridge.Attrs().Index, Dst: everything}); err != nil {
		return fmt.Errorf("setting the default route: %w", err)
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
		return fmt.Errorf("allowing forwarding between pods: %w", err)
	}
	return nil
}
