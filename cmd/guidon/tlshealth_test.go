package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/guidon-flags/guidon/store/storetest"
)

// certificate writes one that flags.example and localhost may show, and its key.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"flags.example", "localhost"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
}

// TestHealthOverTLS: a server with a certificate is asked for its health over TLS
// alone, at the same port, as the image, Compose and Kubernetes ask it.
func TestHealthOverTLS(t *testing.T) {
	t.Parallel()
	cert, key := certificate(t)
	master := filepath.Join(t.TempDir(), "master.key")
	secret := [32]byte{1} // storetest.MasterKey's
	if err := os.WriteFile(master, []byte(hex.EncodeToString(secret[:])), 0o600); err != nil {
		t.Fatal(err)
	}
	url := start(t, "serve", "--listen", "127.0.0.1:0", "--database-url", storetest.URL(t), "--master-key-file", master,
		"--tls-cert", cert, "--tls-key", key).servingURL(t)
	address, ok := strings.CutPrefix(url, "https://")
	if !ok {
		t.Fatalf("a server with a certificate says that it serves at %s", url)
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	// Kubernetes with scheme HTTPS, which does not verify.
	kubelet := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	t.Cleanup(kubelet.CloseIdleConnections)
	probe := func(url string) (int, string) {
		t.Helper()
		response, err := kubelet.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		said, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, string(said)
	}
	storetest.Eventually(t, "the server is ready", func() bool { status, _ := probe(url + "/readyz"); return status == http.StatusOK })
	if status, said := probe(url + "/healthz"); status != http.StatusOK || said != "ok\n" {
		t.Errorf("/healthz over TLS: %d %q", status, said)
	}
	if status, said := probe("http://" + address + "/healthz"); status != http.StatusBadRequest || !strings.Contains(said, "HTTPS") {
		t.Errorf("/healthz without TLS: %d %q, want a refusal that says why", status, said)
	}
	health := func(env []string, args ...string) (string, error) {
		cmd := exec.Command("guidon", append([]string{"health"}, args...)...)
		cmd.Env = append(os.Environ(), env...)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for _, c := range []struct {
		env, args []string
		said      string // empty for a failure
	}{
		// As the image's HEALTHCHECK, which knows where the server listens.
		{[]string{"GUIDON_LISTEN=" + address}, nil, "ok\n"},
		{[]string{"GUIDON_LISTEN=0.0.0.0:" + port}, []string{"--ready"}, "ready\n"},
		// From outside, by name, with the certificate verified.
		{[]string{"SSL_CERT_FILE=" + cert}, []string{"--url", "https://localhost:" + port}, "ok\n"},
		{nil, []string{"--url", "https://localhost:" + port}, ""},
		{[]string{"SSL_CERT_FILE=" + cert}, []string{"--url", url}, ""}, // it is not for 127.0.0.1
		{nil, []string{"--url", "http://" + address}, ""},
	} {
		said, err := health(c.env, c.args...)
		if (err == nil) != (c.said != "") || c.said != "" && said != c.said {
			t.Errorf("%v guidon health %v = %q, %v, want %q", c.env, c.args, said, err, c.said)
		}
	}
}
