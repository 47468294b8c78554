// Package pki makes the certificates and kubeconfigs of one cluster.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"slipway.dev/e2e/cluster/internal/layout"
)

// lifetime is how long certificates hold; a test cluster does not live that long.
const lifetime = 10 * 365 * 24 * time.Hour

// Authority signs the cluster's certificates.
type Authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
	// PEM is the authority's certificate.
	PEM []byte
}

// Pair is a certificate and its private key, both PEM.
type Pair struct{ Certificate, Key []byte }

// Identity is whom a certificate is for. Addresses and Names make it a server's.
type Identity struct {
	User      string
	Groups    []string
	Addresses []string
	Names     []string
}

// NewAuthority makes a self-signed authority.
func NewAuthority() (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the authority's key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "slipway-cluster"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(lifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("making the authority's certificate: %w", err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("reading the authority's certificate: %w", err)
	}
	return &Authority{certificate: certificate, key: key, PEM: encode("CERTIFICATE", der)}, nil
}

// Issue signs a certificate for a client, which is also a server's when the identity has addresses or names.
func (a *Authority) Issue(identity Identity) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, fmt.Errorf("making a key for %s: %w", identity.User, err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return Pair{}, fmt.Errorf("making a serial number for %s: %w", identity.User, err)
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: identity.User, Organization: identity.Groups},
		NotBefore:    a.certificate.NotBefore,
		NotAfter:     a.certificate.NotAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		DNSNames:     identity.Names,
	}
	for _, address := range identity.Addresses {
		template.IPAddresses = append(template.IPAddresses, net.ParseIP(address))
	}
	if len(identity.Addresses)+len(identity.Names) > 0 {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		return Pair{}, fmt.Errorf("signing a certificate for %s: %w", identity.User, err)
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return Pair{}, err
	}
	return Pair{Certificate: encode("CERTIFICATE", der), Key: keyPEM}, nil
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func encodeKey(key any) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding a private key: %w", err)
	}
	return encode("PRIVATE KEY", der), nil
}

// kubeconfig renders the configuration of one client.
func (a *Authority) kubeconfig(cluster, server string, pair Pair) ([]byte, error) {
	config := clientcmdapi.NewConfig()
	config.Clusters[cluster] = &clientcmdapi.Cluster{Server: server, CertificateAuthorityData: a.PEM}
	config.AuthInfos[cluster] = &clientcmdapi.AuthInfo{ClientCertificateData: pair.Certificate, ClientKeyData: pair.Key}
	config.Contexts[cluster] = &clientcmdapi.Context{Cluster: cluster, AuthInfo: cluster, Namespace: "default"}
	config.CurrentContext = cluster
	content, err := clientcmd.Write(*config)
	if err != nil {
		return nil, fmt.Errorf("rendering a kubeconfig: %w", err)
	}
	return content, nil
}

// Write makes everything a new cluster needs: keys and certificates in STATE/pki, and kubeconfigs for the components
// (STATE/pki/NAME.conf, addressed inside the node) and for people (STATE/kubeconfig, addressed at 127.0.0.1:port).
func Write(cluster layout.Cluster, port int) error {
	authority, err := NewAuthority()
	if err != nil {
		return err
	}
	authorityKey, err := encodeKey(authority.key)
	if err != nil {
		return err
	}
	files := map[string][]byte{"pki/ca.crt": authority.PEM, "pki/ca.key": authorityKey}

	tokens, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("making the service accounts' key: %w", err)
	}
	if files["pki/sa.key"], err = encodeKey(tokens); err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(tokens.Public())
	if err != nil {
		return fmt.Errorf("encoding the service accounts' key: %w", err)
	}
	files["pki/sa.pub"] = encode("PUBLIC KEY", public)

	masters := []string{"system:masters"}
	for name, identity := range map[string]Identity{
		"apiserver": {
			User:      "kube-apiserver",
			Addresses: []string{"127.0.0.1", layout.NodeAddress, layout.APIServiceIP},
			Names: []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
				"kubernetes.default.svc." + layout.ClusterDomain},
		},
		"apiserver-kubelet": {User: "kube-apiserver-kubelet-client", Groups: masters},
		"kubelet": {User: "system:node:" + cluster.Name, Groups: []string{"system:nodes"},
			Addresses: []string{layout.NodeAddress}, Names: []string{cluster.Name}},
	} {
		pair, err := authority.Issue(identity)
		if err != nil {
			return err
		}
		files["pki/"+name+".crt"], files["pki/"+name+".key"] = pair.Certificate, pair.Key
	}

	// An authority of its own: whoever has a certificate of it may call himself by any name.
	proxies, err := NewAuthority()
	if err != nil {
		return err
	}
	pair, err := proxies.Issue(Identity{User: layout.FrontProxy})
	if err != nil {
		return err
	}
	files["pki/front-proxy-ca.crt"] = proxies.PEM
	files["pki/front-proxy.crt"], files["pki/front-proxy.key"] = pair.Certificate, pair.Key

	inside := fmt.Sprintf("https://%s:%d", layout.NodeAddress, layout.APIPort)
	outside := fmt.Sprintf("https://127.0.0.1:%d", port)
	for path, client := range map[string]struct {
		server   string
		identity Identity
	}{
		"kubeconfig":                       {outside, Identity{User: "admin", Groups: masters}},
		"pki/admin.conf":                   {inside, Identity{User: "slipway-cluster", Groups: masters}},
		"pki/kube-controller-manager.conf": {inside, Identity{User: "system:kube-controller-manager"}},
		"pki/kube-scheduler.conf":          {inside, Identity{User: "system:kube-scheduler"}},
		"pki/kube-proxy.conf":              {inside, Identity{User: "system:kube-proxy"}},
		"pki/kubelet.conf":                 {inside, Identity{User: "system:node:" + cluster.Name, Groups: []string{"system:nodes"}}},
	} {
		pair, err := authority.Issue(client.identity)
		if err != nil {
			return err
		}
		if files[path], err = authority.kubeconfig(cluster.Name, client.server, pair); err != nil {
			return err
		}
	}

	if err := os.MkdirAll(cluster.Path("pki"), 0o700); err != nil {
		return fmt.Errorf("making the certificates' directory: %w", err)
	}
	for path, content := range files {
		if err := os.WriteFile(filepath.Join(cluster.State, path), content, 0o600); err != nil {
			return fmt.Errorf("writing a certificate: %w", err)
		}
	}
	return nil
}
