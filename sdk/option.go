package guidon

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"

	"github.com/guidon-flags/guidon/sdk/feed"
	"github.com/guidon-flags/guidon/sdk/propagate"
)

// Option changes what [Open] does.
type Option interface {
	apply(*options) error
}

type optionFunc func(*options) error

func (f optionFunc) apply(o *options) error { return f(o) }

type options struct {
	url          string
	key          string
	service      string
	log          *slog.Logger
	mode         propagate.Mode
	context      func(*http.Request) map[string]any
	destinations []string
	baggage      []string
	source       func(feed.Source) feed.Source
	cache        string
	bootstrap    *feed.Bootstrap
	http         *http.Client
}

func newOptions(address string, opts []Option) (options, error) {
	o := options{log: slog.New(slog.DiscardHandler), service: filepath.Base(os.Args[0])}
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return o, fmt.Errorf("guidon: %w", err)
	case address == "":
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "":
		return o, fmt.Errorf("guidon: url %q is not of the form https://host", u.Redacted())
	case u.User != nil, u.RawQuery != "", u.Fragment != "":
		return o, fmt.Errorf("guidon: url %q has more than a host and a path", u.Redacted())
	}
	o.url = address
	for _, opt := range opts {
		if err := opt.apply(&o); err != nil {
			return o, fmt.Errorf("guidon: %w", err)
		}
	}
	if address == "" && o.bootstrap == nil && o.source == nil {
		return o, errNowhere
	}
	return o, nil
}

var errNowhere = errors.New("guidon: url \"\" is not of the form https://host, and without a server there must be flags to begin with: see WithBootstrap")

var (
	keyForm  = regexp.MustCompile(`^gdn_(server|client|admin|relay)_[0-9A-Za-z]+$`)
	errNoKey = errors.New("the key is empty")
	errKey   = errors.New("the key is not of the form gdn_server_…")
	errKind  = errors.New("the key is not a server key, which is what an application connects with")
)

// WithKey is the server key to connect with; it also says which environment.
// Without it only a server that has an open environment lets the client in. The
// key is never printed.
func WithKey(key string) Option {
	return optionFunc(func(o *options) error {
		switch form := keyForm.FindStringSubmatch(key); {
		case key == "":
			return errNoKey
		case form == nil:
			return errKey
		case form[1] != "server":
			return errKind
		}
		o.key = key
		return nil
	})
}

// WithService names the application in Guidon's lists of who is connected.
// Defaults to the program's name.
func WithService(name string) Option {
	return optionFunc(func(o *options) error {
		o.service = cmp.Or(name, o.service)
		return nil
	})
}

// WithLogger is told of the connection's life and, once each, of what is odd in
// the requests that arrive. Never a key, a flag value or an evaluation context.
// Defaults to no log.
func WithLogger(log *slog.Logger) Option {
	return optionFunc(func(o *options) error {
		if log != nil {
			o.log = log
		}
		return nil
	})
}

// WithMode says how far the middleware trusts the guidon header of a request.
// Defaults to [propagate.Edge], which does not: right for what the internet
// reaches. Services that only other services call want [propagate.Internal].
func WithMode(mode propagate.Mode) Option {
	return optionFunc(func(o *options) error {
		o.mode = mode
		return nil
	})
}

// WithContext says what is known of a request where it enters the system: its
// evaluation context, "targetingKey" among it. It is asked only for requests
// that are rooted here.
func WithContext(context func(*http.Request) map[string]any) Option {
	return optionFunc(func(o *options) error {
		o.context = context
		return nil
	})
}

// WithDestinations lists the hosts that outgoing requests may carry the header
// to, as names, addresses or suffixes of whole labels, in place of the default:
// loopback and private names.
func WithDestinations(hosts ...string) Option {
	return optionFunc(func(o *options) error {
		o.destinations = append([]string{}, hosts...) // none is not the default
		return nil
	})
}

// WithBaggage lists those destinations, in the form of [WithDestinations], that
// get the header a second time, as the member "guidon" of W3C baggage: services
// that hand on baggage and nothing else, so that those behind them can follow it.
// Defaults to none.
func WithBaggage(hosts ...string) Option {
	return optionFunc(func(o *options) error {
		o.baggage = hosts
		return nil
	})
}

// WithSource puts something between the client and the server's stream, such as
// a delay.
func WithSource(wrap func(feed.Source) feed.Source) Option {
	return optionFunc(func(o *options) error {
		o.source = wrap
		return nil
	})
}

// WithCache keeps the newest flags and keys in a directory, for a start while no
// server can be reached: the service then begins with what it had. The directory
// is made if it is missing. Its files hold the environment's propagation keys, so
// only their owner may read them; those of several servers or keys, and of
// several processes, do not get in each other's way. Defaults to none.
func WithCache(dir string) Option {
	return optionFunc(func(o *options) error {
		if dir == "" {
			return errors.New("the cache directory has no name")
		}
		o.cache = dir
		return nil
	})
}

// WithBootstrap begins with the flags of the *.json files of a file system, such
// as an [embed.FS], until the server's arrive: either one revision as a server
// exports it at /guidon/v1/environments/…/revisions/…, or flagd documents. With
// an empty url there is no server, and the flags stay.
func WithBootstrap(files fs.FS) Option {
	return optionFunc(func(o *options) (err error) {
		o.bootstrap, err = feed.ReadBootstrap(files)
		return err
	})
}

// WithHTTPClient connects through client, for a proxy, certificates or
// unencrypted HTTP/2 of one's own. It must have no overall timeout, which would
// cut the stream. Defaults to a client of bounded timeouts that follows no
// redirect.
func WithHTTPClient(client *http.Client) Option {
	return optionFunc(func(o *options) error {
		if client != nil && client.Timeout != 0 {
			return errors.New("the HTTP client has an overall timeout, which would cut the stream")
		}
		o.http = client
		return nil
	})
}
