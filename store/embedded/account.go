package embedded

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strconv"
	"syscall"
)

// account is who Postgres runs as. The zero value is the user of this process.
type account struct {
	name   string
	uid    uint32
	gid    uint32
	groups []uint32
	change bool // this process is root and must become the account
}

// chooseAccount returns who Postgres runs as: this process' own user, unless
// that is root, which Postgres refuses.
func chooseAccount(given string) (account, error) {
	if os.Geteuid() != 0 {
		return account{uid: uint32(os.Geteuid()), gid: uint32(os.Getegid())}, nil
	}
	for _, name := range []string{cmp.Or(given, "postgres"), cmp.Or(given, "nobody")} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(err1, err2); err != nil {
			return account{}, fmt.Errorf("account %s: %w", name, err)
		}
		if uid == 0 {
			return account{}, fmt.Errorf("account %s is root, which Postgres refuses to run as", name)
		}
		a := account{name: name, uid: uint32(uid), gid: uint32(gid), change: true}
		ids, _ := u.GroupIds() // without them the account has fewer rights, not more
		for _, id := range ids {
			if g, err := strconv.ParseUint(id, 10, 32); err == nil {
				a.groups = append(a.groups, uint32(g))
			}
		}
		return a, nil
	}
	return account{}, fmt.Errorf("root cannot run Postgres, and there is no unprivileged account %s to run it as", cmp.Or(given, "postgres or nobody"))
}

// own gives a file that this package made to the account.
func (a account) own(path string) error {
	if !a.change {
		return nil
	}
	return os.Lchown(path, int(a.uid), int(a.gid))
}

// mayEnter reports whether the account can traverse a directory.
func (a account) mayEnter(info os.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return true
	}
	mode := info.Mode().Perm()
	switch {
	case stat.Uid == a.uid:
		return mode&0o100 != 0
	case stat.Gid == a.gid || slices.Contains(a.groups, stat.Gid):
		return mode&0o010 != 0
	}
	return mode&0o001 != 0
}

// attributes are those of a process that runs as the account.
func (a account) attributes() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{}
	if a.change {
		attr.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid, Groups: a.groups}
	}
	return attr
}
