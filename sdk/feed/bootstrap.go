package feed

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/eval"
)

// Bootstrap is what a feed begins with when it has nothing newer.
type Bootstrap struct {
	// Environment is the one the flags are of; empty for flags that are written
	// by hand, which any revision of a server replaces.
	Environment string
	Snapshot    *eval.Snapshot
}

// defaultProject owns what a document defines, as it does in an import.
var defaultProject = json.RawMessage(`{"project":"default"}`)

var errNoBootstrap = errors.New("feed: there is no *.json file to begin with")

// ReadBootstrap reads the *.json files of a file system. Either there is one, a
// revision as a server exports it at /guidon/v1/environments/…/revisions/…; or
// all are flagd documents, which together make one set of flags.
func ReadBootstrap(files fs.FS) (*Bootstrap, error) {
	var names []string
	err := fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && path.Ext(name) == ".json" {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("feed: bootstrap: %w", err)
	}
	if len(names) == 0 {
		return nil, errNoBootstrap
	}
	rows := map[eval.Name]eval.Row{}
	for _, name := range names {
		content, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, fmt.Errorf("feed: bootstrap: %w", err)
		}
		export, isExport, err := readExport(content)
		switch {
		case err == nil && isExport && len(names) == 1:
			return export, nil
		case err == nil && isExport:
			err = errors.New("an exported revision must be the only file")
		case err == nil:
			err = readDocument(content, rows)
		}
		if err != nil {
			return nil, fmt.Errorf("feed: bootstrap: %s: %w", name, err)
		}
	}
	snapshot, err := eval.Compile(1, slices.Collect(maps.Values(rows)))
	if err != nil {
		return nil, fmt.Errorf("feed: bootstrap: %w", err)
	}
	if err := snapshot.Validate(slices.Collect(maps.Keys(rows))...); err != nil {
		return nil, fmt.Errorf("feed: bootstrap: %w", err)
	}
	return &Bootstrap{Snapshot: snapshot}, nil
}

// readExport reads a revision as a server exports it, if that is what it is.
func readExport(content []byte) (*Bootstrap, bool, error) {
	var export struct {
		Environment string `json:"environment"`
		Revision    int64  `json:"revision"`
		Digest      string `json:"digest"`
		Rows        []struct {
			Kind     string          `json:"kind"`
			Name     string          `json:"name"`
			From     int64           `json:"from_revision"`
			Document json.RawMessage `json:"document"`
		} `json:"rows"`
	}
	if err := json.Unmarshal(content, &export); err != nil {
		return nil, false, err
	}
	if export.Rows == nil || export.Environment == "" {
		return nil, false, nil
	}
	rows := make([]*guidonv1.Row, 0, len(export.Rows))
	for _, r := range export.Rows {
		rows = append(rows, &guidonv1.Row{Kind: r.Kind, Name: r.Name, FromRevision: r.From, Document: r.Document})
	}
	snapshot, err := compileWhole(export.Revision, export.Digest, rows)
	return &Bootstrap{export.Environment, snapshot}, true, err
}

// readDocument adds the flags and segments of a flagd document.
func readDocument(content []byte, rows map[eval.Name]eval.Row) error {
	document, err := eval.ParseDocument(content)
	if err != nil {
		return err
	}
	add := func(kind eval.Kind, name, member string, definition json.RawMessage) error {
		id := eval.Name{Kind: kind, Name: name}
		if _, twice := rows[id]; twice {
			return fmt.Errorf("%s %q stands in two files", kind, name)
		}
		row, err := json.Marshal(map[string]json.RawMessage{member: definition, "guidon": defaultProject})
		if err != nil {
			return err
		}
		if row, err = eval.Canonical(row); err != nil {
			return err
		}
		rows[id] = eval.Row{Kind: kind, Name: name, From: 1, Document: row}
		return nil
	}
	for _, flag := range document.Flags {
		if err := add(eval.KindFlag, flag.Key, "flag", flag.Definition); err != nil {
			return err
		}
	}
	for name, condition := range document.Evaluators {
		if err := add(eval.KindSegment, name, "segment", condition); err != nil {
			return err
		}
	}
	return nil
}
