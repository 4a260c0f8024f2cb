package embedded

import "syscall"

// dieWithParent has the kernel ask the child for a fast shutdown when its
// parent ends, by kill -9 too.
//
// The signal is tied to the thread that starts the child: it must live as long.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGINT }
