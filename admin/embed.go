package admin

import (
	"embed"
	"io/fs"
	"net/http"
)

//go:embed all:dist
var dist embed.FS

// Handler serves the UI that was built into this binary under /admin/; see
// [HandlerFor].
func Handler() http.Handler {
	app, err := fs.Sub(dist, "dist/app")
	if err != nil {
		panic(err) // dist/app is a valid path, whether it exists or not
	}
	return HandlerFor(app)
}
