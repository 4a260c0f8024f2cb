package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/checkpoint"
	"github.com/guidon-flags/guidon/server/notary"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/audit"
)

// Exit codes of audit verify.
const (
	exitBroken     = 10
	exitState      = 11
	exitCheckpoint = 12
)

// verifyTimeout is how long the server may take to read a chain whole: the
// longest that it allows.
const verifyTimeout = time.Hour

// maxSent is how many checkpoints fit into a request.
const maxSent = 2000

// findingError is what audit verify found. It has been printed.
type findingError struct{ code int }

func (e *findingError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// verification is what audit verify prints.
type verification struct {
	Chain    string `json:"chain"` // see chainName; empty if it is not known
	Outcome  string `json:"outcome"`
	Detail   string `json:"detail,omitempty"`
	Entries  int64  `json:"entries"`
	Head     string `json:"head"`
	Covered  int64  `json:"covered"`
	Verifier string `json:"verifier,omitempty"`
}

// outcomes are the words for findings, and the exit codes.
var outcomes = map[string]int{"ok": exitOK, "broken": exitBroken, "state": exitState, "checkpoint": exitCheckpoint}

// found is the outcome of a verification that ended with err; "" if err says
// that there was none.
func found(err error) string {
	if err == nil {
		return "ok"
	}
	if _, ok := errors.AsType[*audit.BrokenError](err); ok {
		return "broken"
	}
	if _, ok := errors.AsType[*audit.StateError](err); ok {
		return "state"
	}
	if _, ok := errors.AsType[*audit.CheckpointError](err); ok {
		return "checkpoint"
	}
	return ""
}

func newAuditVerifyCommand(out *output, r *remote) *cobra.Command {
	var environment, file, checkpointFile, verifier, databaseURL string
	var installation bool
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Prove that the audit log is whole and that the state is what it says",
		Long: "Follow a chain of the audit log from its beginning, hold it against its signed checkpoints\n" +
			"and replay it against what is stored: asked of the server, or of the database alone with\n" +
			"--database-url, or of an exported file with --file, which needs neither and is not replayed\n" +
			"against anything. --checkpoint names a file with signed checkpoints that were kept elsewhere,\n" +
			"such as 'guidon serve --checkpoint-file' writes: those of the chain must all match, so that an\n" +
			"export has to be younger than the newest of them. --verifier is the public key, known from\n" +
			"elsewhere, that they and the log must be signed with. --environment or --installation beside\n" +
			"--file says whose chain the file must be.\n\n" +
			"Exit codes: 0 whole, 10 broken at an entry, 11 the state differs from what the entries made,\n" +
			"12 not the log that a checkpoint was made of, that the key signs, or whose chain was named.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := namedChain(environment, installation, file); err != nil {
				return err
			}
			notes, err := readNotes(checkpointFile)
			if err != nil {
				return err
			}
			var v verification
			switch {
			case file != "":
				var want []string
				if environment != "" || installation {
					want = []string{environment}
				}
				v, err = verifyFile(file, want, verifier, notes)
			case databaseURL != "":
				v, err = verifyDatabase(cmd.Context(), databaseURL, environment, verifier, notes)
			default:
				if !cmd.Flags().Changed("timeout") {
					r.timeout = verifyTimeout
				}
				v, err = verifyRemote(cmd.Context(), r, cmd.ErrOrStderr(), environment, verifier, notes)
			}
			if err != nil {
				return err
			}
			return v.print(cmd, out)
		},
	}
	registerChain(cmd, &environment, &installation)
	cmd.Flags().StringVar(&file, "file", "", "an export to verify; - for standard input")
	cmd.Flags().StringVar(&checkpointFile, "checkpoint", "", "file with signed checkpoints that the log must match")
	cmd.Flags().StringVar(&verifier, "verifier", "", "public key of the checkpoints, if it is known from elsewhere")
	cmd.Flags().StringVar(&databaseURL, "database-url", "", "verify straight in this database, without a server")
	return cmd
}

func registerChain(cmd *cobra.Command, environment *string, installation *bool) {
	cmd.Flags().StringVar(environment, "environment", "", "the environment whose chain it is")
	cmd.Flags().BoolVar(installation, "installation", false, "the chain that belongs to no environment: keys, descriptions")
}

// oneChain checks that exactly one chain was named.
func oneChain(environment string, installation bool) error {
	if (environment != "") == installation {
		return usagef("give one of --environment and --installation")
	}
	return nil
}

// namedChain checks that one chain was named, or a file, which names one itself.
func namedChain(environment string, installation bool, file string) error {
	switch {
	case environment != "" && installation:
		return oneChain(environment, installation)
	case environment == "" && !installation && file == "":
		return usagef("give one of --environment, --installation and --file")
	}
	return nil
}

// chainName is how a chain is printed.
func chainName(scope string) string { return cmp.Or(scope, "installation") }

func (v verification) print(cmd *cobra.Command, out *output) error {
	err := out.print(cmd.OutOrStdout(), v, func(t *table) {
		if v.Chain != "" {
			t.row("chain", v.Chain)
		}
		t.row("outcome", v.Outcome)
		if v.Detail != "" {
			t.row("detail", v.Detail)
		}
		t.row("entries", v.Entries)
		t.row("covered by a checkpoint", v.Covered)
		t.row("head", v.Head)
		t.row("verifier", v.Verifier)
	})
	if err != nil {
		return err
	}
	code, ok := outcomes[v.Outcome]
	if !ok {
		return fmt.Errorf("the server found %q, which this program does not know", v.Outcome)
	}
	if code != exitOK {
		return &findingError{code}
	}
	return nil
}

// readNotes reads the signed checkpoints in a file: as many as it holds, one
// behind the other, of whichever chains. What was not written whole is passed
// over.
func readNotes(path string) ([]string, error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	// A note is text, an empty line, and lines of signatures: a dash, a name and
	// the signature.
	var notes []string
	var note strings.Builder
	signed, divided := false, false
	next := func() {
		if signed {
			notes = append(notes, note.String())
		}
		note.Reset()
		signed, divided = false, false
	}
	for line := range strings.Lines(string(text)) {
		empty := strings.TrimSpace(line) == ""
		signature := strings.HasPrefix(line, "\u2014 ") && strings.HasSuffix(line, "\n") && len(strings.Fields(line)) == 3
		if !signature && (signed || divided && !empty) || strings.HasSuffix(line, notary.CutShort) {
			next()
		}
		if empty && note.Len() == 0 || strings.HasSuffix(line, notary.CutShort) {
			continue
		}
		note.WriteString(line)
		signed, divided = signature, divided || empty
	}
	next()
	if len(notes) == 0 {
		return nil, fmt.Errorf("%s holds no signed checkpoint", path)
	}
	return notes, nil
}

// ofChain are those of notes that are of one chain, by size.
func ofChain(notes []string, scope string) ([]string, error) {
	var out []string
	for _, note := range notes {
		origin, _, _ := strings.Cut(note, "\n")
		if (checkpoint.Checkpoint{Origin: origin}).Of(scope) {
			out = append(out, note)
		}
	}
	if len(notes) > 0 && len(out) == 0 {
		return nil, &audit.CheckpointError{Scope: scope, Reason: "the checkpoints given are of other chains"}
	}
	slices.SortStableFunc(out, func(a, b string) int { return cmp.Compare(noteSize(a), noteSize(b)) })
	return out, nil
}

// noteSize is how many entries a note says that it covers, signed or not.
func noteSize(note string) int64 {
	lines := strings.SplitN(note, "\n", 3)
	if len(lines) < 3 {
		return 0
	}
	size, _ := strconv.ParseInt(lines[1], 10, 64)
	return size
}

// opened checks the signatures of the notes that are of a chain, and returns them
// by size. One that another key signed is of another log.
func opened(notes []string, verifier, scope string) ([]checkpoint.Checkpoint, error) {
	notes, err := ofChain(notes, scope)
	out := make([]checkpoint.Checkpoint, len(notes))
	for i, note := range notes {
		if out[i], err = checkpoint.Open(note, verifier); errors.Is(err, checkpoint.ErrSignature) {
			return nil, &audit.CheckpointError{Scope: scope, Size: noteSize(note), Reason: err.Error()}
		}
		if err != nil {
			return nil, err
		}
	}
	return out, err
}

// verifyFile verifies an export. want is empty, or holds the scope that it must
// be of.
func verifyFile(path string, want []string, verifier string, notes []string) (verification, error) {
	var in io.Reader = os.Stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return verification{}, err
		}
		defer f.Close()
		in = f
	}
	result := verification{Verifier: verifier}
	x, err := audit.ReadExport(bufio.NewReaderSize(in, 1<<20), verifier)
	if err != nil {
		return result.with(audit.Verified{}, err)
	}
	scope := x.Header.Scope
	result.Chain, result.Verifier = chainName(scope), cmp.Or(verifier, x.Header.Verifier)
	if len(want) > 0 && want[0] != scope {
		err = &audit.CheckpointError{Scope: want[0], Reason: "the export is of the chain " + chainName(scope)}
		return result.with(audit.Verified{}, err)
	}
	var v audit.Verified
	known, err := opened(notes, result.Verifier, scope)
	if err == nil {
		// There are no tables to compare with, but entries that contradict each
		// other are found.
		v, err = x.Verify(replayOf(scope), known...)
	}
	return result.with(v, err)
}

func replayOf(scope string) *audit.Replay {
	if scope == audit.Installation {
		return store.InstallationReplay(time.Now())
	}
	return &audit.Replay{Kinds: store.RowKinds()}
}

func (v verification) with(held audit.Verified, err error) (verification, error) {
	v.Entries, v.Head, v.Covered = held.Head.Seq, held.Head.Hash.String(), held.Covered
	if v.Outcome = found(err); v.Outcome == "" {
		return v, err
	}
	if err != nil {
		v.Detail = err.Error()
	}
	return v, nil
}

func verifyDatabase(ctx context.Context, url, environment, verifier string, notes []string) (verification, error) {
	db, err := openCurrent(ctx, store.Config{DatabaseURL: url})
	if err != nil {
		return verification{}, err
	}
	defer db.Close()
	if verifier == "" && len(notes) > 0 {
		return verification{}, usagef("--checkpoint needs --verifier when the database is read without its master key")
	}
	var v audit.Verified
	known, err := opened(notes, verifier, environment)
	if err == nil {
		v, err = db.VerifyAudit(ctx, environment, verifier, known...)
	}
	return verification{Chain: chainName(environment), Verifier: verifier}.with(v, err)
}

func verifyRemote(ctx context.Context, r *remote, stderr io.Writer, environment, verifier string, notes []string) (verification, error) {
	result := verification{Chain: chainName(environment), Verifier: verifier}
	api, err := r.open()
	if err != nil {
		return result, err
	}
	if notes, err = ofChain(notes, environment); err == nil && verifier != "" {
		_, err = opened(notes, verifier, environment)
	}
	if err != nil {
		return result.with(audit.Verified{}, err)
	}
	if len(notes) > maxSent {
		notes = notes[len(notes)-maxSent:]
		_, _ = fmt.Fprintf(stderr, "guidon: the newest %d checkpoints are compared; --file and --database-url compare all\n", maxSent)
	}
	res, err := api.audit.Verify(ctx, &guidonv1.AuditServiceVerifyRequest{Environment: environment, Checkpoints: notes})
	if err != nil {
		return result, err
	}
	result = verification{
		Chain: result.Chain, Outcome: res.GetOutcome(), Detail: res.GetDetail(), Entries: res.GetEntries(), Head: res.GetHead(),
		Covered: res.GetCovered(), Verifier: res.GetVerifier(),
	}
	if verifier != "" && verifier != res.GetVerifier() {
		// Whatever it found: it was held against another key's checkpoints.
		err := &audit.CheckpointError{Scope: environment, Reason: "the server names another key"}
		result.Outcome, result.Detail, result.Covered = found(err), err.Error(), 0
	}
	return result, nil
}
