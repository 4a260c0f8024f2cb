package main

import (
	"cmp"
	"log/slog"
	"net"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/guidon-flags/guidon/server"
)

// tlsFlags are the flags about how clients connect.
type tlsFlags struct{ cert, key string }

func (f *tlsFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.cert, "tls-cert", "",
		"PEM file with the certificate to show, and those of its issuers; it is read again when it is replaced (default $GUIDON_TLS_CERT, then plain HTTP)")
	flags.StringVar(&f.key, "tls-key", "", "PEM file with the certificate's key (default $GUIDON_TLS_KEY)")
}

// open reads the certificate; without one there is no TLS.
func (f *tlsFlags) open(log *slog.Logger) (*server.Certificate, error) {
	f.cert, f.key = cmp.Or(f.cert, os.Getenv("GUIDON_TLS_CERT")), cmp.Or(f.key, os.Getenv("GUIDON_TLS_KEY"))
	switch {
	case f.cert == "" && f.key == "":
		return nil, nil //nolint:nilnil // plain HTTP is no error
	case f.cert == "" || f.key == "":
		return nil, usagef("--tls-cert and --tls-key: want both, or neither")
	}
	return server.OpenCertificate(f.cert, f.key, log)
}

// url is where this machine reaches a listener.
func (f *tlsFlags) url(addr net.Addr) string {
	url := localURL(addr)
	if f.cert != "" {
		url = "https" + strings.TrimPrefix(url, "http")
	}
	return url
}
