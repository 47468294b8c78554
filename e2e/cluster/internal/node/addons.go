package node

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"slipway.dev/e2e/cluster/internal/layout"
	"slipway.dev/e2e/cluster/internal/provisioner"
)

// applyAddons makes the cluster's own objects: the DNS service, whose server is a process of the node, and the
// storage classes.
func applyAddons(ctx context.Context, client kubernetes.Interface) error {
	type step struct {
		what   string
		create func() error
	}
	ports := []struct {
		name     string
		protocol corev1.Protocol
	}{{"dns", corev1.ProtocolUDP}, {"dns-tcp", corev1.ProtocolTCP}}
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "kube-dns", Namespace: metav1.NamespaceSystem, Labels: map[string]string{"k8s-app": "kube-dns"}},
		Spec:       corev1.ServiceSpec{ClusterIP: layout.DNSServiceIP},
	}
	endpoints := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Name: "kube-dns", Namespace: metav1.NamespaceSystem, Labels: map[string]string{
			discoveryv1.LabelServiceName: "kube-dns",
			discoveryv1.LabelManagedBy:   "slipway-cluster",
		}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{layout.NodeAddress}, Conditions: discoveryv1.EndpointConditions{Ready: ptr(true)}}},
	}
	for _, port := range ports {
		service.Spec.Ports = append(service.Spec.Ports, corev1.ServicePort{Name: port.name, Protocol: port.protocol, Port: 53})
		endpoints.Ports = append(endpoints.Ports, discoveryv1.EndpointPort{Name: ptr(port.name), Protocol: ptr(port.protocol), Port: ptr(int32(53))})
	}
	standard := &storagev1.StorageClass{
		ObjectMeta:        metav1.ObjectMeta{Name: "standard", Annotations: map[string]string{"storageclass.kubernetes.io/is-default-class": "true"}},
		Provisioner:       provisioner.Name,
		ReclaimPolicy:     ptr(corev1.PersistentVolumeReclaimDelete),
		VolumeBindingMode: ptr(storagev1.VolumeBindingWaitForFirstConsumer),
	}
	// Volumes of this class hold no more than was asked for: for tests of a disk that fills.
	sized := standard.DeepCopy()
	sized.ObjectMeta = metav1.ObjectMeta{Name: "memory"}
	sized.Parameters = map[string]string{provisioner.MediumParameter: provisioner.MediumMemory}
	createClass := func(class *storagev1.StorageClass) func() error {
		return func() error {
			_, err := client.StorageV1().StorageClasses().Create(ctx, class, metav1.CreateOptions{})
			return err
		}
	}
	for _, step := range []step{
		{"the DNS service", func() error {
			_, err := client.CoreV1().Services(metav1.NamespaceSystem).Create(ctx, service, metav1.CreateOptions{})
			return err
		}},
		{"the DNS service's endpoint", func() error {
			_, err := client.DiscoveryV1().EndpointSlices(metav1.NamespaceSystem).Create(ctx, endpoints, metav1.CreateOptions{})
			return err
		}},
		{"the default storage class", createClass(standard)},
		{"the storage class of limited size", createClass(sized)},
	} {
		if err := insist(step.what, step.create); err != nil {
			return err
		}
	}
	return nil
}

// insist repeats a creation for up to a minute: an API server that is ready may still be making its first namespaces.
func insist(what string, create func() error) error {
	var err error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		if err = create(); err == nil || apierrors.IsAlreadyExists(err) {
			return nil
		}
		log.Printf("making %s: %v; trying again", what, err)
	}
	return fmt.Errorf("making %s: %w", what, err)
}

// waitForDNS waits until CoreDNS has seen the cluster's objects.
func waitForDNS() {
	client := http.Client{Timeout: time.Second}
	for {
		if answer, err := client.Get("http://127.0.0.1:8181/ready"); err == nil {
			answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				log.Print("DNS is ready")
				return
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func ptr[T any](value T) *T { return &value }
