package store_test
import ("testing";"fmt";"os";"time";"sync";"slices";"github.com/guidon-flags/guidon/store";"github.com/guidon-flags/guidon/store/embedded";"github.com/guidon-flags/guidon/migrations")
func TestTput(t *testing.T) {
	dir, _ := os.MkdirTemp("", "tput"); os.Chmod(dir, 0o755); defer os.RemoveAll(dir)
	s, err := embedded.Start(t.Context(), embedded.Config{Dir: dir})
	if err != nil { t.Fatal(err) }
	defer s.Stop()
	if err := migrations.Up(t.Context(), s.DatabaseURL()); err != nil { t.Fatal(err) }
	db, err := store.Open(t.Context(), store.Config{DatabaseURL: s.DatabaseURL(), MaxWrites: 32})
	if err != nil { t.Fatal(err) }
	defer db.Close()
	var ops []store.Operation
	for i := range 100 { ops = append(ops, put("production", fmt.Sprintf("f%d", i), onOff)) }
	apply(t, db, ops...)
	for round := range 2 {
	for _, q := range []string{"", "x"} {
	os.Setenv("NOQ", q)
	for _, w := range []int{1, 8, 32} {
		var wg sync.WaitGroup; var mu sync.Mutex; var lat []time.Duration
		end := time.Now().Add(4*time.Second)
		for g := range w { wg.Go(func() { for i := 0; time.Now().Before(end); i++ {
			st := []string{"DISABLED","ENABLED"}[i%2]
			b := time.Now()
			if _, err := db.Apply(t.Context(), change(store.SetState{Environment:"production", Key: fmt.Sprintf("f%d", g), State: st})); err != nil { t.Error(err); return }
			mu.Lock(); lat = append(lat, time.Since(b)); mu.Unlock()
		}})}
		wg.Wait(); slices.Sort(lat)
		fmt.Println(round, "noqueue:", q, w, "writers:", len(lat)/4, "tx/s p50", lat[len(lat)/2], "p99", lat[len(lat)*99/100], db.Stats().Retries)
	}
	}
	}
}
