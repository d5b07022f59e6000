// go.mod for flows, which needs more than the standard library: where Debian puts it.
module exeunt.invalid/rivals

go 1.18

require (
	golang.org/x/sync v0.0.0
	golang.org/x/time v0.0.0
)

replace (
	golang.org/x/sync => /usr/share/gocode/src/golang.org/x/sync
	golang.org/x/time => /usr/share/gocode/src/golang.org/x/time
)
