package notary

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Endpoint takes checkpoints over HTTP: an object store or a webhook.
type Endpoint struct {
	address string
	put     bool
	token   string
	shown   string
	client  *http.Client
}

// EndpointConfig says where an endpoint is.
type EndpointConfig struct {
	// URL is where to send the notes. One that holds {chain} or {size} is filled
	// in and gets a PUT, as object stores take it; any other gets a POST. The
	// chain is "installation" or "environment/NAME". Required.
	URL string
	// Token goes with each as Authorization: Bearer. Over plain HTTP it is not
	// sent to another machine. Defaults to none.
	Token string
	// Timeout is how long one may take. Defaults to 10s.
	Timeout time.Duration
}

// maxAnswer is how much of an answer is read, so that the connection can be used
// again. None of it is shown.
const maxAnswer = 64 << 10

// NewEndpoint returns an endpoint, or what is wrong with its configuration.
func NewEndpoint(c EndpointConfig) (*Endpoint, error) {
	e := &Endpoint{address: c.URL, token: c.Token, put: strings.Contains(c.URL, "{chain}") || strings.Contains(c.URL, "{size}")}
	u, err := url.Parse(e.at(Publication{Environment: "environment", Size: 1}))
	switch {
	case err != nil:
		return nil, errors.New("the URL cannot be read")
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return nil, errors.New("want http://HOST/PATH or https://HOST/PATH")
	case u.User != nil:
		return nil, errors.New("a URL is no place for a password: give a token")
	case u.Fragment != "":
		return nil, errors.New("the URL has a fragment, which no server sees")
	case strings.ContainsAny(u.Host+u.Path+u.RawQuery, "{}"):
		return nil, errors.New("{chain} and {size} are all that is filled in")
	case c.Token != "" && u.Scheme == "http" && !isLoopback(u.Hostname()):
		return nil, errors.New("the token would go over the network in the clear: want https")
	}
	for _, r := range c.Token {
		if r <= ' ' || r > '~' {
			return nil, errors.New("the token holds what no header can: want printable ASCII without spaces")
		}
	}
	e.shown = u.Scheme + "://" + u.Host
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, MaxIdleConns: 2, IdleConnTimeout: time.Minute,
		MaxResponseHeaderBytes: maxAnswer,
	}
	e.client = &http.Client{
		Transport: transport, Timeout: cmp.Or(c.Timeout, 10*time.Second),
		// Whoever could redirect could have the note, and the token, elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return e, nil
}

func isLoopback(host string) bool {
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

// String is the host: paths and queries may hold what signs a request.
func (e *Endpoint) String() string { return e.shown }

// GoString hides the token from %#v.
func (e *Endpoint) GoString() string { return e.shown }

// at is where a checkpoint goes.
func (e *Endpoint) at(p Publication) string {
	chain := "installation"
	if p.Environment != "" {
		chain = "environment/" + p.Environment
	}
	return strings.NewReplacer("{chain}", chain, "{size}", strconv.FormatInt(p.Size, 10)).Replace(e.address)
}

// Publish implements [Destination].
func (e *Endpoint) Publish(ctx context.Context, p Publication) error {
	method := http.MethodPost
	if e.put {
		method = http.MethodPut
	}
	request, err := http.NewRequestWithContext(ctx, method, e.at(p), strings.NewReader(p.Note))
	if err != nil {
		return errors.New("the URL cannot be read")
	}
	request.Header.Set("Content-Type", "text/plain; charset=utf-8")
	if e.token != "" {
		request.Header.Set("Authorization", "Bearer "+e.token)
	}
	response, err := e.client.Do(request)
	if err != nil {
		if at, ok := errors.AsType[*url.Error](err); ok {
			err = at.Err // without the URL
		}
		return err
	}
	_, _ = io.CopyN(io.Discard, response.Body, maxAnswer)
	_ = response.Body.Close()
	switch {
	case response.StatusCode >= 300 && response.StatusCode < 400:
		return fmt.Errorf("it answers %d: redirects are not followed", response.StatusCode)
	case response.StatusCode < 200 || response.StatusCode >= 300:
		return fmt.Errorf("it answers %d", response.StatusCode)
	}
	return nil
}
