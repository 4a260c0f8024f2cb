package notary

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// CutShort ends a line of a published file that was not written whole, because
// the disk was full or the machine went down. What was to stand there follows.
const CutShort = " cut short\n"

// File is a file to which checkpoints are appended: signed notes with an empty
// line behind each, which is what "guidon audit verify --checkpoint" reads. It
// is opened for each, so that it may be moved away at any time, and is never
// made shorter.
type File struct{ path string }

// NewFile returns the file at a path, which it makes if there is none. It is an
// error if it cannot be appended to.
func NewFile(path string) (*File, error) {
	f := &File{path}
	file, err := f.open()
	if err != nil {
		return nil, err
	}
	return f, file.Close()
}

// String is the path.
func (f *File) String() string { return f.path }

func (f *File) open() (*os.File, error) {
	// It holds no secret, and somebody else has to copy it elsewhere.
	file, err := os.OpenFile(f.path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o644) //nolint:gosec // see above
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", f.path)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// Publish implements [Destination].
func (f *File) Publish(_ context.Context, p Publication) error {
	file, err := f.open()
	if err != nil {
		return err
	}
	prefix, err := mend(file)
	if err == nil {
		// In one piece: replicas on one machine may share the file.
		_, err = file.WriteString(prefix + p.Note + "\n")
	}
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close(), syncDir(filepath.Dir(f.path)))
}

// mend returns what makes the end of a file the end of a note.
func mend(file *os.File) (string, error) {
	info, err := file.Stat()
	if err != nil || info.Size() == 0 {
		return "", err
	}
	end := make([]byte, min(info.Size(), 2))
	if _, err := file.ReadAt(end, info.Size()-int64(len(end))); err != nil {
		return "", err
	}
	switch {
	case !strings.HasSuffix(string(end), "\n"):
		return CutShort + "\n", nil
	case string(end) != "\n\n":
		return "\n", nil
	}
	return "", nil
}

// syncDir makes sure that a file which was just made is there after a crash.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
