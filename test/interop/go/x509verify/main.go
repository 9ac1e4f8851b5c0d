// Command x509verify is a judge for tests: it reads one JSON case per line and prints what Go's crypto/x509 says of it.
package main

import (
	"bufio"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"time"
)

// testCase holds DER in base64: a CSR alone, or a leaf with what surrounds it.
type testCase struct {
	CSR           []byte   `json:"csr"`
	Leaf          []byte   `json:"leaf"`
	Intermediates [][]byte `json:"intermediates"`
	Roots         [][]byte `json:"roots"`
	At            int64    `json:"at"`
}

type verdict struct {
	Error   string   `json:"error"`
	Subject string   `json:"subject"`
	Serial  string   `json:"serial"`
	URIs    []string `json:"uris"`
	DNS     []string `json:"dns"`
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var c testCase
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		v, err := judge(c)
		if err != nil {
			v.Error = err.Error()
		}
		out, _ := json.Marshal(v)
		fmt.Println(string(out))
	}
}

func judge(c testCase) (v verdict, err error) {
	if c.CSR != nil {
		csr, err := x509.ParseCertificateRequest(c.CSR)
		if err != nil {
			return v, err
		}
		v.Subject, v.DNS = csr.Subject.String(), csr.DNSNames
		for _, uri := range csr.URIs {
			v.URIs = append(v.URIs, uri.String())
		}
		return v, csr.CheckSignature()
	}
	leaf, err := x509.ParseCertificate(c.Leaf)
	if err != nil {
		return v, err
	}
	v.Subject, v.Serial, v.DNS = leaf.Subject.String(), leaf.SerialNumber.String(), leaf.DNSNames
	for _, uri := range leaf.URIs {
		v.URIs = append(v.URIs, uri.String())
	}
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	if err := add(roots, c.Roots); err != nil {
		return v, err
	}
	if err := add(intermediates, c.Intermediates); err != nil {
		return v, err
	}
	_, err = leaf.Verify(x509.VerifyOptions{
		Roots:         roots,
		Intermediates: intermediates,
		CurrentTime:   time.Unix(c.At, 0),
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	return v, err
}

func add(pool *x509.CertPool, certificates [][]byte) error {
	for _, der := range certificates {
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		pool.AddCert(certificate)
	}
	return nil
}
