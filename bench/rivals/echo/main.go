// SPDX-License-Identifier: Apache-2.0
// As exeunt.cpp, in Go.
package main

import (
	"fmt"
	"net"
	"syscall"

	"exeunt.invalid/rivals/harness"
)

func serveOne(peer net.Conn) {
	defer peer.Close()
	bytes := make([]byte, 4096)
	for {
		count, err := peer.Read(bytes)
		if err != nil {
			return
		}
		if bytes[0] == 'b' {
			// A call that blocks the thread, as a C library's would.
			syscall.Select(0, nil, nil, nil, &syscall.Timeval{Usec: 50_000})
		}
		if _, err = peer.Write(bytes[:count]); err != nil {
			return
		}
	}
}

func main() {
	harness.Start()
	door, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(door.Addr().(*net.TCPAddr).Port)
	for {
		peer, err := door.Accept()
		if err != nil {
			panic(err)
		}
		go serveOne(peer)
	}
}
