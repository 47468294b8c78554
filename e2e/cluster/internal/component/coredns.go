package component

import (
	"fmt"
	"os"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"

	// The plugins of the Corefile, and no others.
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/loadbalance"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/template"
)

// runCoreDNS serves the Corefile named by args[1] until it is ended.
func runCoreDNS(args []string) int {
	if len(args) != 2 {
		fmt.Fprintln(os.Stderr, "coredns: give the Corefile as the only argument")
		return 2
	}
	// The order in which the plugins see a query; that of upstream's plugin.cfg.
	dnsserver.Directives = []string{"health", "ready", "errors", "cache", "loadbalance", "template", "kubernetes"}
	caddy.Quiet = true
	corefile, err := os.ReadFile(args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "coredns:", err)
		return 1
	}
	caddy.TrapSignals()
	instance, err := caddy.Start(caddy.CaddyfileInput{Contents: corefile, Filepath: args[1], ServerTypeName: "dns"})
	if err != nil {
		fmt.Fprintln(os.Stderr, "coredns:", err)
		return 1
	}
	instance.Wait()
	return 0
}
