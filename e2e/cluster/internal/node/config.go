package node

import (
	"fmt"
	"os"
	"path/filepath"

	"slipway.dev/e2e/cluster/internal/layout"
)

// containerdConfig is for containerd 1.6 and 1.7. restrict_oom_score_adj: root without CAP_SYS_RESOURCE cannot lower a
// sandbox's score, and every sandbox would die ("can't get final child's PID from pipe: EOF").
const containerdConfig = `version = 2
root = "${STATE}/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper"]

[grpc]
address = "${SOCKET}"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "${PAUSE}"
restrict_oom_score_adj = true
disable_apparmor = true
disable_tcp_service = true

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "${SNAPSHOTTER}"
default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "${CNI}"
conf_dir = "${STATE}/config/cni"
`

// cniConfig routes pods point to point: bridged traffic would need the kernel's bridge netfilter.
const cniConfig = `{
  "cniVersion": "0.4.0",
  "name": "pods",
  "plugins": [
    {"type": "ptp", "ipam": {"type": "host-local", "ranges": [[{"subnet": "${PODS}"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
`

// kubeletConfig: images are never collected and pods never evicted because the host's disk is rather full; back-offs
// stay short, so that tests that kill pods need not wait; ConfigMaps reach running pods within ten seconds.
const kubeletConfig = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: ${NODE_ADDRESS}
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: ${STATE}/pki/ca.crt}
authorization: {mode: Webhook}
tlsCertFile: ${STATE}/pki/kubelet.crt
tlsPrivateKeyFile: ${STATE}/pki/kubelet.key
cgroupDriver: cgroupfs
cgroupRoot: /${CGROUP}
enforceNodeAllocatable: []
failCgroupV1: false
failSwapOn: false
localStorageCapacityIsolation: false
oomScoreAdj: 0
clusterDNS: [${DNS_ADDRESS}]
clusterDomain: ${CLUSTER_DOMAIN}
resolvConf: ${STATE}/config/resolv.conf
containerRuntimeEndpoint: unix://${SOCKET}
maxPods: 60
serializeImagePulls: false
containerLogMaxSize: 20Mi
containerLogMaxFiles: 3
syncFrequency: 10s
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
evictionHard: {memory.available: 50Mi, nodefs.available: 1%, nodefs.inodesFree: 1%, imagefs.available: 1%}
crashLoopBackOff: {maxContainerRestartPeriod: 5s}
featureGates: {KubeletCrashLoopBackOffMax: true}
`

// corefile: negative answers are kept for one second only, else the workers of a Job wait five for each other's names.
// Names outside the cluster do not exist: the node has no way out.
const corefile = `${CLUSTER_DOMAIN}:53 in-addr.arpa:53 ip6.arpa:53 {
	errors
	health 127.0.0.1:8080
	ready 127.0.0.1:8181
	kubernetes ${CLUSTER_DOMAIN} in-addr.arpa ip6.arpa {
		kubeconfig ${STATE}/pki/admin.conf
		pods insecure
		ttl 5
	}
	cache 5 {
		denial 9984 1
	}
	loadbalance
}
.:53 {
	errors
	template ANY ANY . {
		rcode NXDOMAIN
	}
}
`

// writeConfig renders the components' configuration files into STATE/config.
func writeConfig(cluster layout.Cluster, cgroup, snapshotter string) error {
	values := map[string]string{
		"STATE":          cluster.State,
		"SOCKET":         layout.ContainerdSocket,
		"SNAPSHOTTER":    snapshotter,
		"PAUSE":          layout.PauseImage,
		"CNI":            layout.CNIPlugins,
		"PODS":           layout.PodNetwork,
		"NODE_ADDRESS":   layout.NodeAddress,
		"DNS_ADDRESS":    layout.DNSServiceIP,
		"CLUSTER_DOMAIN": layout.ClusterDomain,
		"CGROUP":         cgroup,
	}
	for name, content := range map[string]string{
		"containerd.toml":      containerdConfig,
		"cni/10-pods.conflist": cniConfig,
		"kubelet.yaml":         kubeletConfig,
		"Corefile":             corefile,
		"resolv.conf":          "# Pods with dnsPolicy Default get no name server: there is none to reach.\n",
	} {
		path := cluster.Path("config", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("making the configuration directory: %w", err)
		}
		if err := os.WriteFile(path, []byte(os.Expand(content, func(name string) string { return values[name] })), 0o644); err != nil {
			return fmt.Errorf("writing a configuration file: %w", err)
		}
	}
	return nil
}

func etcdArgs(cluster layout.Cluster) []string {
	return []string{
		"--name=node", "--data-dir=" + cluster.Path("etcd"), "--log-level=warn",
		"--listen-client-urls=http://127.0.0.1:2379", "--advertise-client-urls=http://127.0.0.1:2379",
		"--listen-peer-urls=http://127.0.0.1:2380", "--initial-advertise-peer-urls=http://127.0.0.1:2380",
		"--initial-cluster=node=http://127.0.0.1:2380",
		// The data does not outlive the cluster, so a power cut may take it.
		"--unsafe-no-fsync",
	}
}

func apiserverArgs(cluster layout.Cluster) []string {
	pki := func(name string) string { return cluster.Path("pki", name) }
	return []string{
		"--etcd-servers=http://127.0.0.1:2379",
		"--advertise-address=" + layout.NodeAddress,
		fmt.Sprintf("--secure-port=%d", layout.APIPort),
		"--service-cluster-ip-range=" + layout.ServiceNetwork,
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--allow-privileged=true",
		"--client-ca-file=" + pki("ca.crt"),
		"--tls-cert-file=" + pki("apiserver.crt"), "--tls-private-key-file=" + pki("apiserver.key"),
		"--kubelet-certificate-authority=" + pki("ca.crt"),
		"--kubelet-client-certificate=" + pki("apiserver-kubelet.crt"),
		"--kubelet-client-key=" + pki("apiserver-kubelet.key"),
		"--kubelet-preferred-address-types=InternalIP",
		"--requestheader-client-ca-file=" + pki("front-proxy-ca.crt"), "--requestheader-allowed-names=" + layout.FrontProxy,
		"--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + pki("front-proxy.crt"), "--proxy-client-key-file=" + pki("front-proxy.key"),
		"--service-account-issuer=https://kubernetes.default.svc." + layout.ClusterDomain,
		"--service-account-key-file=" + pki("sa.pub"), "--service-account-signing-key-file=" + pki("sa.key"),
	}
}

func controllerManagerArgs(cluster layout.Cluster) []string {
	return []string{
		"--kubeconfig=" + cluster.Path("pki", "kube-controller-manager.conf"),
		"--use-service-account-credentials=true", "--leader-elect=false",
		"--root-ca-file=" + cluster.Path("pki", "ca.crt"),
		"--service-account-private-key-file=" + cluster.Path("pki", "sa.key"),
		"--cluster-signing-cert-file=" + cluster.Path("pki", "ca.crt"),
		"--cluster-signing-key-file=" + cluster.Path("pki", "ca.key"),
		"--bind-address=127.0.0.1",
	}
}

func schedulerArgs(cluster layout.Cluster) []string {
	return []string{"--kubeconfig=" + cluster.Path("pki", "kube-scheduler.conf"), "--leader-elect=false", "--bind-address=127.0.0.1"}
}

func kubeletArgs(cluster layout.Cluster) []string {
	return []string{
		"--config=" + cluster.Path("config", "kubelet.yaml"), "--kubeconfig=" + cluster.Path("pki", "kubelet.conf"),
		"--hostname-override=" + cluster.Name, "--node-ip=" + layout.NodeAddress,
	}
}

func proxyArgs(cluster layout.Cluster) []string {
	return []string{
		"--kubeconfig=" + cluster.Path("pki", "kube-proxy.conf"), "--hostname-override=" + cluster.Name,
		"--proxy-mode=iptables", "--cluster-cidr=" + layout.PodNetwork,
		// The connection table's size belongs to the host.
		"--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0",
		"--oom-score-adj=0",
	}
}
