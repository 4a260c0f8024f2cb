package feed

import "time"

// State is how far the values of a [Feed] can be trusted to be the newest.
type State uint8

const (
	// StateConnecting is the zero value: there is no snapshot yet.
	StateConnecting State = iota
	// StateReady means that the newest revision was applied, and that the stream
	// is up or was lost only a moment ago.
	StateReady
	// StateStale means that there is a snapshot, and that the stream has been
	// lost for longer than [Config.StaleAfter], or that the server has not known for
	// as long whether it has the newest revision. The values are served for ever.
	StateStale
)

func (s State) String() string {
	switch s {
	case StateReady:
		return "ready"
	case StateStale:
		return "stale"
	case StateConnecting:
		return "connecting"
	default:
		return "unknown"
	}
}

// Status is what a [Feed] knows about itself at one moment.
type Status struct {
	State State
	// Connected says that a stream is open and has begun.
	Connected bool
	// Environment is the one the key belongs to; empty until the first stream.
	Environment string
	// Revision is the one held; 0 before the first snapshot.
	Revision int64
	// Age is the time since the server was last heard, or since it last knew that it
	// has the newest revision; 0 if it never was.
	Age time.Duration
	// LastError is why the last stream ended; empty while all is well.
	LastError string
}

// condition is the part of the status that changes in steps.
type condition struct {
	state       State
	connected   bool
	environment string
	lastError   string
	// lostSince is when the stream was lost, or Run began; zero while current.
	lostSince time.Time
}

// Status is a consistent reading; it never blocks. Safe for concurrent use.
func (f *Feed) Status() Status {
	c := f.condition.Load()
	s := Status{State: c.state, Connected: c.connected, Environment: c.environment, LastError: c.lastError}
	if snapshot := f.Snapshot(); snapshot != nil {
		s.Revision = snapshot.Revision()
	}
	if heard := f.heard.Load(); heard != 0 {
		s.Age = max(time.Since(time.Unix(0, heard)), 0)
	}
	return s
}

// transition changes the condition and tells the application, one change at a
// time. Transitions that change nothing are told too: a listener that could not
// act on one may act on the next.
func (f *Feed) transition(change func(*condition)) {
	f.transitions.Lock()
	defer f.transitions.Unlock()
	if f.over {
		return
	}
	next := *f.condition.Load()
	change(&next)
	f.condition.Store(&next)
	f.config.Status(f.Status())
}

// lose notes that there is no stream, for the reason of err.
func (f *Feed) lose(err error) {
	f.transition(func(c *condition) {
		c.connected = false
		c.lastError = err.Error()
		if c.lostSince.IsZero() {
			f.startStaleClock(c)
		}
	})
}

// startStaleClock runs at each loss of a current stream, under transitions.
func (f *Feed) startStaleClock(c *condition) {
	c.lostSince = time.Now()
	f.staleClock.Reset(f.config.StaleAfter)
}

// goStale is what the stale clock does. The clock may have been stopped while
// this waited its turn, so it looks again.
func (f *Feed) goStale() {
	f.transition(func(c *condition) {
		if c.state == StateReady && !c.lostSince.IsZero() && time.Since(c.lostSince) >= f.config.StaleAfter {
			c.state = StateStale
		}
	})
}

// outdate notes that the server has not known for a while whether what it has, and
// we hold, is the newest.
func (f *Feed) outdate(age time.Duration) {
	f.heard.Store(time.Now().Add(-age).UnixNano())
	if c := f.condition.Load(); c.state == StateStale && c.lastError == errOutdated {
		return
	}
	f.transition(func(c *condition) {
		f.staleClock.Stop()
		c.state = StateStale
		c.lastError = errOutdated
		if c.lostSince.IsZero() {
			c.lostSince = time.Now()
		}
	})
}

const errOutdated = "the server does not know whether it has the newest revision: its database or its upstream is away"

// begin notes the first event of a stream.
func (f *Feed) begin(environment string) {
	f.transition(func(c *condition) {
		c.connected = true
		c.environment = environment
	})
}

// current notes that the newest revision is held. It is called with each event
// that shows it, and tells the application only what is new.
func (f *Feed) current() {
	if c := f.condition.Load(); c.state == StateReady && c.lostSince.IsZero() {
		return
	}
	f.transition(func(c *condition) {
		f.staleClock.Stop()
		c.state = StateReady
		c.lastError = ""
		c.lostSince = time.Time{}
	})
}
