// SPDX-License-Identifier: Apache-2.0
// As exeunt.cpp, in Go.
package main

import (
	"fmt"
	"net"
	"net/http"

	"exeunt.invalid/rivals/harness"
)

func main() {
	harness.Start()
	hello := []byte("Hello, World!")
	routes := http.NewServeMux()
	routes.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.Write(hello)
	})
	door, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(door.Addr().(*net.TCPAddr).Port)
	panic(http.Serve(door, routes))
}
