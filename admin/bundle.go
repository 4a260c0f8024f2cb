package admin

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"
)

const (
	prefix = "/admin/"
	index  = "index.html"
	// assets is the folder whose files carry the hash of their content in
	// their name.
	assets = "assets/"
)

// policy lets the page load nothing but what this origin serves. Inline styles
// are allowed because the component library sets CSS variables with them;
// inline scripts are not.
const policy = "default-src 'self'; style-src 'self' 'unsafe-inline'; base-uri 'none'; object-src 'none'; frame-ancestors 'none'; form-action 'self'"

// encodings are the precompressed forms the build may put beside a file,
// smallest first. The empty one is the file itself.
var encodings = []struct{ name, suffix string }{{"br", ".br"}, {"gzip", ".gz"}, {"", ""}}

// HandlerFor serves the application in bundle, the build's output folder, under
// the path /admin/ (it expects the whole path, unstripped). It reads the bundle
// once, at the call, and is safe for concurrent use.
//
// A path that is no file is answered with index.html, so that the
// application's own addresses can be opened and reloaded; only a missing asset
// is 404 Not Found. Methods other than GET and HEAD are 405 Method Not Allowed.
// A bundle without index.html, an empty one above all, is served as a page that
// says how to build it.
func HandlerFor(bundle fs.FS) http.Handler {
	files := load(bundle)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Content-Security-Policy", policy)
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Referrer-Policy", "same-origin")
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			header.Set("Allow", "GET, HEAD")
			http.Error(w, "the admin UI answers GET and HEAD only", http.StatusMethodNotAllowed)
			return
		}
		name := strings.TrimPrefix(r.URL.Path, prefix)
		f, ok := files[name]
		switch {
		case ok:
		case strings.HasPrefix(name, assets):
			http.Error(w, "no such asset", http.StatusNotFound)
			return
		default:
			f = files[index]
			name = index
		}
		if strings.HasPrefix(name, assets) {
			header.Set("Cache-Control", "public, max-age=31536000, immutable")
		} else {
			header.Set("Cache-Control", "no-cache")
		}
		f.serve(w, r)
	})
}

// file is one file of the bundle in every encoding it came in.
type file struct {
	contentType string
	forms       []form
}

// form is a file in one encoding.
type form struct {
	encoding string
	etag     string
	content  []byte
}

// load reads the whole bundle: it is small, and hashing it once makes every
// answer a lookup. What cannot be read is left out, as if it were not there.
func load(bundle fs.FS) map[string]file {
	files := map[string]file{}
	_ = fs.WalkDir(bundle, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return fs.SkipDir
		}
		if entry.IsDir() || path.Ext(name) == ".br" || path.Ext(name) == ".gz" {
			return nil
		}
		f := file{contentType: contentType(name)}
		for _, encoding := range encodings {
			content, err := fs.ReadFile(bundle, name+encoding.suffix)
			if err != nil {
				continue
			}
			f.forms = append(f.forms, newForm(encoding.name, content))
		}
		files[name] = f
		return nil
	})
	if _, ok := files[index]; !ok {
		return map[string]file{index: {contentType: contentType(index), forms: []form{newForm("", []byte(unbuilt))}}}
	}
	return files
}

func newForm(encoding string, content []byte) form {
	sum := sha256.Sum256(content)
	return form{encoding: encoding, etag: strconv.Quote(hex.EncodeToString(sum[:16])), content: content}
}

// contentType does not ask the machine's MIME tables, which differ.
func contentType(name string) string {
	switch path.Ext(name) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	case ".json", ".map":
		return "application/json"
	case ".woff2":
		return "font/woff2"
	case ".txt":
		return "text/plain; charset=utf-8"
	}
	return "application/octet-stream"
}

func (f file) serve(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Content-Type", f.contentType)
	header.Set("Vary", "Accept-Encoding")
	for _, form := range f.forms {
		if form.encoding != "" && !accepts(r, form.encoding) {
			continue
		}
		header.Set("ETag", form.etag)
		if form.encoding != "" {
			header.Set("Content-Encoding", form.encoding)
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(form.content))
		return
	}
	http.Error(w, "no acceptable encoding", http.StatusNotAcceptable)
}

// accepts reports whether the request names the encoding without refusing it.
func accepts(r *http.Request, encoding string) bool {
	for part := range strings.SplitSeq(strings.Join(r.Header.Values("Accept-Encoding"), ","), ",") {
		name, parameters, err := mime.ParseMediaType(strings.TrimSpace(part))
		if err != nil || name != encoding {
			continue
		}
		q, err := strconv.ParseFloat(parameters["q"], 64)
		return err != nil || q > 0
	}
	return false
}

// unbuilt is what a binary without a bundle shows. It needs no script.
const unbuilt = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Guidon: the admin UI is not built</title>
<style>
body { margin: 12vh auto; max-width: 34rem; padding: 0 1.5rem; font: 1rem/1.6 system-ui, sans-serif; }
h1 { font-size: 1.25rem; }
code { font: 0.95em ui-monospace, monospace; padding: 0.1em 0.4em; border: 1px solid; border-radius: 4px; }
</style>
</head>
<body>
<h1>This Guidon was built without its admin UI</h1>
<p>Everything else works: the API, the command line and the SDKs.</p>
<p>To have the UI too, run <code>make admin</code> (it needs Node.js and npm), build the binary again and restart it.</p>
</body>
</html>
`
