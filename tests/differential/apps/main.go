// Go's net/http, twice: a ServeMux, and FileServer by itself. main ROOT PORT PORT
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
)

func main() {
	root := os.Args[1]
	files := http.FileServer(http.Dir(root))
	mux := http.NewServeMux()
	mux.Handle("/public/", files)
	mux.Handle("/private/", files)
	log.SetOutput(io.Discard)
	go listen(os.Args[2], root, mux)
	listen(os.Args[3], root, files)
}

func listen(port, root string, next http.Handler) {
	var served atomic.Int64
	secret, err := os.Stat(filepath.Join(root, "private/secret"))
	if err != nil {
		panic(err)
	}
	handler := func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/public/echo", "/private/echo":
			io.Copy(io.Discard, r.Body)
			r.Header.Write(w)
			r.Trailer.Write(w)
		case "/public/served":
			fmt.Fprint(w, served.Load())
		default:
			next.ServeHTTP(w, r)
			if w.Header().Get("Content-Length") == fmt.Sprint(secret.Size()) {
				served.Add(1)
			}
		}
	}
	fmt.Fprintln(os.Stderr, http.ListenAndServe("127.0.0.1:"+port, http.HandlerFunc(handler)))
	os.Exit(1)
}
