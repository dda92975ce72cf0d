//go:build !go1.24

package main

import "net/http"

// speakHTTP2 does nothing: the standard library had no cleartext HTTP/2 yet.
func speakHTTP2(*http.Server) {}
