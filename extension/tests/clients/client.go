// An ordinary client: client METHOD URL. It knows of no proxy, and prints the body of the answer.
package main

import (
	"io"
	"log"
	"net/http"
	"os"
	"strings"
)

func main() {
	method, url := os.Args[1], os.Args[2]
	var body io.Reader
	if method == http.MethodPost {
		body = strings.NewReader("hello")
	}
	request, err := http.NewRequest(method, url, body)
	if err != nil {
		log.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := io.Copy(os.Stdout, answer.Body); err != nil {
		log.Fatal(err)
	}
}
