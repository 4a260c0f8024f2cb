package server_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/guidon-flags/guidon/server"
	"github.com/guidon-flags/guidon/store/storetest"
)

// pair writes a certificate with a serial number, and its key, to a directory.
func pair(t *testing.T, dir string, serial int64) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	write(t, key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
	write(t, cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return cert, key
}

func write(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestCertificateIsReplaced: connections that are open stay, later ones get the
// new certificate, and files that make no sense change nothing.
func TestCertificateIsReplaced(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certFile, keyFile := pair(t, dir, 1)
	certificate, err := server.OpenCertificate(certFile, keyFile, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	g := start(t, func(o *options) { o.server.Certificate = certificate })
	url := "https" + strings.TrimPrefix(g.url, "http") + "/healthz"
	connect := func() *http.Client {
		transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}
		t.Cleanup(transport.CloseIdleConnections)
		return &http.Client{Transport: transport}
	}
	shown := func(client *http.Client) int64 {
		t.Helper()
		response, err := client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.ProtoMajor != 2 {
			t.Errorf("GET %s: %s, want HTTP/2", url, response.Proto)
		}
		return response.TLS.PeerCertificates[0].SerialNumber.Int64()
	}
	first := connect()
	if got := shown(first); got != 1 {
		t.Fatalf("the certificate shown is number %d, want 1", got)
	}
	pair(t, dir, 2)
	storetest.Eventually(t, "the second certificate is shown", func() bool { return shown(connect()) == 2 })
	if got := shown(first); got != 1 {
		t.Errorf("the first connection shows certificate number %d: it was not kept", got)
	}
	write(t, certFile, []byte("this is no certificate"))
	if _, err := server.OpenCertificate(certFile, keyFile, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a file that is no certificate was taken for one")
	}
	if got := shown(connect()); got != 2 {
		t.Errorf("the certificate shown is number %d while the file is none, want 2", got)
	}
	pair(t, dir, 3)
	storetest.Eventually(t, "the third certificate is shown", func() bool { return shown(connect()) == 3 })
	if response, err := http.Get(g.url + "/healthz"); err == nil {
		_ = response.Body.Close()
		if response.StatusCode == http.StatusOK {
			t.Error("plain HTTP is answered where there is a certificate")
		}
	}
}
