package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// What goes wrong in F18, by the name under which applications reach a server.
const (
	noSuchName   = "nxdomain.test"
	servFail     = "servfail.test"
	deadFirst    = "deadfirst.test"
	moved        = "moved.test"
	expired      = "expired.test"
	wrongHost    = "wronghost.test"
	rotated      = "rotated.test"
	stillThere   = "healthy.test"
	localhost    = "127.0.0.1"
	secondHost   = "127.0.0.2"
	deadHost     = "127.0.0.3"
	recoverAtMax = 45 * time.Second // the longest backoff, and the time of an attempt
)

// mislead is F18: names lead nowhere, to somebody who is dead, or elsewhere, and
// certificates are not those of the name. Applications have right values
// meanwhile and come back soon after; a certificate that is replaced costs no
// stream.
func mislead(ctx context.Context, c *Cluster) (map[string]any, error) {
	n, lasts := 10, time.Minute
	if c.settings.short {
		n, lasts = 4, 3*time.Second
	}
	if err := c.Begin(ctx, 1); err != nil {
		return nil, err
	}
	m, err := c.newMaze(ctx)
	if err != nil {
		return nil, err
	}
	defer m.names.close()
	a, err := m.enter(ctx, n)
	if err != nil {
		return nil, err
	}
	figures := map[string]any{"applications": n * len(m.fronts), "lasted_s": int(lasts.Seconds())}

	// A certificate is replaced and nobody notices but those who come later.
	before, err := a.Mark(ctx)
	if err != nil {
		return nil, err
	}
	serial, err := m.certify(rotated, rotated, time.Hour)
	if err != nil {
		return nil, err
	}
	if err := m.shows(ctx, rotated, serial); err != nil {
		return nil, err
	}
	if _, err := c.Tick(ctx); err != nil {
		return nil, err
	}
	after, err := a.Report(ctx)
	if err != nil {
		return nil, err
	}
	dropped := int64(0)
	for i, h := range after.Groups {
		dropped += h.Lost - before.Groups[i].Lost
	}
	if figures["streams_dropped_by_rotation"] = dropped; dropped > 0 {
		return figures, fmt.Errorf("%d streams were dropped when a certificate was replaced", dropped)
	}

	broken := time.Now()
	if err := m.mislead(ctx); err != nil {
		return nil, err
	}
	lost := []string{noSuchName, servFail, expired, wrongHost}
	if err := a.Await(ctx, "applications notice", func(h heard, n int) bool {
		return !slices.Contains(lost, h.Name) || h.Noticed == n && h.Connected == 0
	}); err != nil {
		return nil, err
	}
	revision, err := c.Tick(ctx)
	if err != nil {
		return nil, err
	}
	found, err := a.When(ctx, "applications find another address", func(h heard, n int) bool {
		return h.Name != deadFirst && h.Name != moved || h.at(revision) == n && h.Connected == n
	})
	if err != nil {
		return nil, err
	}
	for _, name := range []string{deadFirst, moved} {
		figures[name] = map[string]any{"found_another_address_ms": found[name].Milliseconds()}
	}
	if err := pause(ctx, lasts-time.Since(broken)); err != nil {
		return nil, err
	}
	during, err := a.Report(ctx)
	if err != nil {
		return nil, err
	}
	for _, h := range during.Groups {
		switch {
		case h.Name == stillThere && h.Lost > 0:
			return nil, fmt.Errorf("%d streams were lost of those whose name and certificate were right", h.Lost)
		case slices.Contains(lost, h.Name) && h.Connected > 0:
			return nil, fmt.Errorf("%d of %s are connected: %v", h.Connected, h.Name, h.Errors)
		}
	}
	asked := m.names.queries()
	if err := m.mend(); err != nil {
		return nil, err
	}
	mended := time.Now()
	if revision, err = c.Tick(ctx); err != nil {
		return nil, err
	}
	back, err := a.When(ctx, "applications come back", func(h heard, n int) bool { return h.at(revision) == n && h.Connected == n })
	if err != nil {
		return nil, err
	}
	if took := time.Since(mended); took > recoverAtMax {
		return nil, fmt.Errorf("it took %v until applications were back, want %v", took, recoverAtMax)
	}
	for _, h := range during.Groups {
		if slices.Contains(lost, h.Name) {
			figures[h.Name] = map[string]any{
				"recovered_ms": back[h.Name].Milliseconds(), "said": slices.Sorted(maps.Keys(h.Errors))[0], "lookups": asked[h.Name],
			}
		}
	}
	return figures, nil
}

// maze is a server behind each name, and who says where names lead.
type maze struct {
	cluster *Cluster
	names   *names
	dir     string
	issuer  *x509.Certificate
	key     *ecdsa.PrivateKey
	serial  int64
	servers map[string]*Server
	fronts  map[string]*front
}

func (c *Cluster) newMaze(ctx context.Context) (*maze, error) {
	m := &maze{cluster: c, dir: filepath.Join(c.dir, "certificates"), servers: map[string]*Server{}, fronts: map[string]*front{}}
	var err error
	if m.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "torture"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, m.key.Public(), m.key)
	if err != nil {
		return nil, err
	}
	if m.issuer, err = x509.ParseCertificate(der); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(m.dir, 0o700); err != nil {
		return nil, err
	}
	if err := writePEM(m.authority(), "CERTIFICATE", der); err != nil {
		return nil, err
	}
	if m.names, err = newNames(ctx); err != nil {
		return nil, err
	}
	dns := []string{noSuchName, servFail, deadFirst, moved, stillThere}
	for _, s := range [][]string{dns, {expired}, {wrongHost}, {rotated}} {
		if _, err := m.certify(s[0], strings.Join(s, " "), time.Hour); err != nil {
			return nil, err
		}
		server, err := c.StartServer(ctx, serving{apart: true, tls: filepath.Join(m.dir, s[0])})
		if err != nil {
			return nil, err
		}
		for _, name := range s {
			m.servers[name] = server
			if m.fronts[name], err = m.front(ctx, name, localhost+":0"); err != nil {
				return nil, err
			}
			m.names.say(name, dnsmessage.RCodeSuccess, localhost)
		}
	}
	return m, nil
}

func (m *maze) authority() string { return filepath.Join(m.dir, "authority.pem") }

func (m *maze) front(ctx context.Context, name, address string) (*front, error) {
	s := m.servers[name]
	return m.cluster.FrontAt(ctx, address, func(ctx context.Context) (net.Conn, error) { return dialTCP(ctx, s.address) })
}

// enter starts n applications for each name. They are told neither of the
// resolver nor of the authority by options of the SDK: it is as it is.
func (m *maze) enter(ctx context.Context, n int) (*Applications, error) {
	if err := m.cluster.publishAlways(ctx); err != nil {
		return nil, err
	}
	all := crowd{Resolver: m.names.address()}
	for _, name := range slices.Sorted(maps.Keys(m.fronts)) {
		all.Groups = append(all.Groups, group{Name: name, URL: "https://" + net.JoinHostPort(name, m.fronts[name].port()), N: n})
	}
	a, err := m.cluster.LaunchApplications(ctx, all,
		"SSL_CERT_FILE="+m.authority(), "SSL_CERT_DIR="+filepath.Join(m.dir, "none"), "NO_PROXY=*", "no_proxy=*")
	if err != nil {
		return nil, err
	}
	return a, a.Await(ctx, "all applications have flags", func(h heard, n int) bool { return h.at(2) == n && h.Connected == n })
}

// mislead breaks all but the rotated, and ends what leads to it now.
func (m *maze) mislead(ctx context.Context) error {
	m.names.say(noSuchName, dnsmessage.RCodeNameError)
	m.names.say(servFail, dnsmessage.RCodeServerFailure)
	m.names.say(deadFirst, dnsmessage.RCodeSuccess, deadHost, localhost)
	if err := m.playDead(ctx, net.JoinHostPort(deadHost, m.fronts[deadFirst].port())); err != nil {
		return err
	}
	m.names.say(moved, dnsmessage.RCodeSuccess, secondHost)
	port := m.fronts[moved].port()
	m.fronts[moved].close()
	second, err := m.front(ctx, moved, net.JoinHostPort(secondHost, port))
	if err != nil {
		return err
	}
	m.fronts[moved] = second
	for name, serves := range map[string]string{expired: expired, wrongHost: "other.test"} {
		valid := time.Hour
		if name == expired {
			valid = -time.Minute
		}
		serial, err := m.certify(name, serves, valid)
		if err != nil {
			return err
		}
		if err := m.shows(ctx, name, serial); err != nil {
			return err
		}
	}
	for _, name := range []string{noSuchName, servFail, deadFirst, expired, wrongHost} {
		m.fronts[name].Cut()
	}
	return nil
}

// mend makes everything right again.
func (m *maze) mend() error {
	for _, name := range []string{noSuchName, servFail, deadFirst} {
		m.names.say(name, dnsmessage.RCodeSuccess, localhost)
	}
	for _, name := range []string{expired, wrongHost} {
		if _, err := m.certify(name, name, time.Hour); err != nil {
			return err
		}
	}
	return nil
}

// certify replaces the certificate of a server by one for these names, and
// returns its serial number.
func (m *maze) certify(server, names string, valid time.Duration) (int64, error) {
	m.serial++
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return 0, err
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(1 + m.serial), DNSNames: strings.Fields(names),
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(valid), KeyUsage: x509.KeyUsageDigitalSignature,
	}, m.issuer, key.Public(), m.key)
	if err != nil {
		return 0, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return 0, err
	}
	dir := filepath.Join(m.dir, server)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return 0, err
	}
	return 1 + m.serial, errors.Join(
		writePEM(filepath.Join(dir, "key.pem"), "PRIVATE KEY", private), writePEM(filepath.Join(dir, "cert.pem"), "CERTIFICATE", der))
}

func writePEM(path, kind string, der []byte) error {
	text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// shows waits until new connections to a server get the certificate of a serial
// number.
func (m *maze) shows(ctx context.Context, name string, serial int64) error {
	for began := time.Now(); ; {
		conn, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}).DialContext(ctx, "tcp", m.servers[name].address) //nolint:gosec // what is looked at is the certificate
		if err != nil {
			return err
		}
		secured, ok := conn.(*tls.Conn)
		shown := ok && secured.ConnectionState().PeerCertificates[0].SerialNumber.Cmp(big.NewInt(serial)) == 0
		_ = conn.Close() // nothing was sent
		if shown {
			return nil
		}
		if time.Since(began) > patience {
			return fmt.Errorf("%s does not show its new certificate after %v", name, patience)
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

// playDead makes an address answer nobody: its queue of connections is full.
func (m *maze) playDead(ctx context.Context, address string) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	m.cluster.files = append(m.cluster.files, os.NewFile(uintptr(fd), address))
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}); err != nil {
		return err
	}
	if err := syscall.Listen(fd, 0); err != nil {
		return err
	}
	for range 64 {
		conn, err := (&net.Dialer{Timeout: 300 * time.Millisecond}).DialContext(ctx, "tcp", address)
		if err != nil {
			return ctx.Err() // nobody is let in any more
		}
		m.cluster.files = append(m.cluster.files, conn)
	}
	return fmt.Errorf("%s takes connections without end", address)
}

// names is a DNS server.
type names struct {
	conn    net.PacketConn
	running sync.WaitGroup

	mu      sync.Mutex
	answers map[string]answer
	asked   map[string]int
}

type answer struct {
	code      dnsmessage.RCode
	addresses []netip.Addr
}

func newNames(ctx context.Context) (*names, error) {
	conn, err := new(net.ListenConfig).ListenPacket(ctx, "udp", localhost+":0")
	if err != nil {
		return nil, err
	}
	n := &names{conn: conn, answers: map[string]answer{}, asked: map[string]int{}}
	n.running.Go(func() {
		buffer := make([]byte, 4096)
		for {
			length, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return // it was closed
			}
			if reply, err := n.reply(buffer[:length]); err == nil {
				_, _ = conn.WriteTo(reply, from) // who asked asks again
			}
		}
	})
	return n, nil
}

func (n *names) address() string { return n.conn.LocalAddr().String() }

func (n *names) close() {
	_ = n.conn.Close() // once
	n.running.Wait()
}

// say sets what a name leads to from now on. Nobody may keep it.
func (n *names) say(name string, code dnsmessage.RCode, addresses ...string) {
	a := answer{code: code}
	for _, text := range addresses {
		a.addresses = append(a.addresses, netip.MustParseAddr(text))
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.answers[name] = a
}

// queries counts what was asked for IPv4 addresses.
func (n *names) queries() map[string]int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return maps.Clone(n.asked)
}

func (n *names) reply(request []byte) ([]byte, error) {
	var parser dnsmessage.Parser
	header, err := parser.Start(request)
	if err != nil {
		return nil, err
	}
	question, err := parser.Question()
	if err != nil {
		return nil, err
	}
	name := strings.TrimSuffix(question.Name.String(), ".")
	n.mu.Lock()
	known, ok := n.answers[name]
	if question.Type == dnsmessage.TypeA {
		n.asked[name]++
	}
	n.mu.Unlock()
	if !ok {
		known.code = dnsmessage.RCodeNameError
	}
	builder := dnsmessage.NewBuilder(nil, dnsmessage.Header{
		ID: header.ID, Response: true, Authoritative: true, RecursionDesired: header.RecursionDesired, RecursionAvailable: true, RCode: known.code,
	})
	if err := errors.Join(builder.StartQuestions(), builder.Question(question), builder.StartAnswers()); err != nil {
		return nil, err
	}
	if question.Type == dnsmessage.TypeA {
		for _, address := range known.addresses {
			record := dnsmessage.ResourceHeader{Name: question.Name, Class: dnsmessage.ClassINET, TTL: 0}
			if err := builder.AResource(record, dnsmessage.AResource{A: address.As4()}); err != nil {
				return nil, err
			}
		}
	}
	return builder.Finish()
}
