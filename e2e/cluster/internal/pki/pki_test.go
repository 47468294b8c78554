package pki

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"os"
	"testing"

	"k8s.io/client-go/tools/clientcmd"

	"slipway.dev/e2e/cluster/internal/layout"
)

func TestTheAPIServersCertificateIsTrustedUnderEveryNameItIsCalledBy(t *testing.T) {
	cluster := layout.Cluster{Name: "test", State: t.TempDir()}
	if err := Write(cluster, 4321); err != nil {
		t.Fatal(err)
	}
	authority, err := os.ReadFile(cluster.Path("pki", "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	pair, err := tls.LoadX509KeyPair(cluster.Path("pki", "apiserver.crt"), cluster.Path("pki", "apiserver.key"))
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"127.0.0.1", layout.NodeAddress, layout.APIServiceIP, "kubernetes.default.svc"} {
		if _, err := certificate.Verify(x509.VerifyOptions{Roots: roots, DNSName: name}); err != nil {
			t.Errorf("as %s: %v", name, err)
		}
	}
	if _, err := certificate.Verify(x509.VerifyOptions{Roots: roots, DNSName: "example.com"}); err == nil {
		t.Error("it is trusted as example.com")
	}
}

func TestKubeconfigsNameTheirUserAndServer(t *testing.T) {
	cluster := layout.Cluster{Name: "test", State: t.TempDir()}
	if err := Write(cluster, 4321); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]struct{ server, user, group string }{
		cluster.Kubeconfig():                   {"https://127.0.0.1:4321", "admin", "system:masters"},
		cluster.Path("pki", "kubelet.conf"):    {"https://10.99.0.1:6443", "system:node:test", "system:nodes"},
		cluster.Path("pki", "kube-proxy.conf"): {"https://10.99.0.1:6443", "system:kube-proxy", ""},
	} {
		config, err := clientcmd.BuildConfigFromFlags("", path)
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(config.CertData)
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		group := ""
		if groups := certificate.Subject.Organization; len(groups) > 0 {
			group = groups[0]
		}
		if config.Host != want.server || certificate.Subject.CommonName != want.user || group != want.group {
			t.Errorf("%s: %s as %s of %q", path, config.Host, certificate.Subject.CommonName, group)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s can be read by others (%v)", path, err)
		}
	}
}

func TestOnlyTheFrontProxysAuthorityVouchesForOthers(t *testing.T) {
	cluster := layout.Cluster{Name: "test", State: t.TempDir()}
	if err := Write(cluster, 4321); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(cluster.Path("pki", "front-proxy.crt"), cluster.Path("pki", "front-proxy.key"))
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	for authority, want := range map[string]bool{"front-proxy-ca.crt": true, "ca.crt": false} {
		content, err := os.ReadFile(cluster.Path("pki", authority))
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(content)
		_, err = certificate.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		if (err == nil) != want {
			t.Errorf("by %s: %v", authority, err)
		}
	}
}
