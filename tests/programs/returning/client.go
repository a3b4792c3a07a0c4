// client HOST PORT CA VERSION VISITS: comes back with what its session cache holds.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"strconv"
)

func main() {
	host, port, ca, version := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	visits, err := strconv.Atoi(os.Args[5])
	check(err)
	pem, err := os.ReadFile(ca)
	check(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	number := map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}[version]
	config := &tls.Config{
		RootCAs:            roots,
		ServerName:         "localhost",
		MinVersion:         number,
		MaxVersion:         number,
		ClientSessionCache: tls.NewLRUClientSessionCache(8),
	}
	for ; visits > 0; visits-- {
		conn, err := tls.Dial("tcp", net.JoinHostPort(host, port), config)
		check(err)
		if conn.ConnectionState().DidResume {
			fmt.Println("reused")
		} else {
			fmt.Println("new")
		}
		_, err = conn.Write([]byte("hello\n"))
		check(err)
		_, err = io.ReadFull(conn, make([]byte, 6))
		check(err)
		conn.Close()
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
