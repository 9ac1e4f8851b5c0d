// Command workload is a workload written with go-spiffe. It prints one line for each thing that worked and fails at the first that did not.
//
//	workload SOCKET SPIFFE-ID
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

func main() {
	log.SetFlags(0)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	client := workloadapi.WithClientOptions(workloadapi.WithAddr("unix://" + os.Args[1]))
	id := spiffeid.RequireFromString(os.Args[2])

	source, err := workloadapi.NewX509Source(ctx, client)
	check(err)
	defer source.Close()
	svid, err := source.GetX509SVID()
	check(err)
	if svid.ID != id {
		log.Fatalf("the SVID is %s", svid.ID)
	}
	fmt.Println("x509", svid.ID, len(svid.Certificates))

	mtls(ctx, source, id)

	jwts, err := workloadapi.NewJWTSource(ctx, client)
	check(err)
	defer jwts.Close()
	token, err := jwts.FetchJWTSVID(ctx, jwtsvid.Params{Audience: "them", ExtraAudiences: []string{"others"}})
	check(err)
	parsed, err := jwtsvid.ParseAndValidate(token.Marshal(), jwts, []string{"others"})
	check(err)
	fmt.Println("jwt", parsed.ID)
	if _, err := jwtsvid.ParseAndValidate(token.Marshal(), jwts, []string{"nobody"}); err == nil {
		log.Fatal("a token for another audience was taken")
	}

	api, err := workloadapi.New(ctx, workloadapi.WithAddr("unix://"+os.Args[1]))
	check(err)
	defer api.Close()
	validated, err := api.ValidateJWTSVID(ctx, token.Marshal(), "them")
	check(err)
	fmt.Println("validated", validated.ID)
	bundles, err := api.FetchX509Bundles(ctx)
	check(err)
	fmt.Println("bundles", bundles.Len())

	// The caller renames the entry now: the new identity must come over the open stream.
	fmt.Println("waiting")
	for {
		check(source.WaitUntilUpdated(ctx))
		svid, err := source.GetX509SVID()
		check(err)
		if svid.ID != id {
			fmt.Println("updated", svid.ID)
			return
		}
	}
}

// mtls lets two ends with SVIDs talk, each checking the ID of the other.
func mtls(ctx context.Context, source *workloadapi.X509Source, id spiffeid.ID) {
	listener, err := spiffetls.ListenWithMode(ctx, "tcp", "127.0.0.1:0",
		spiffetls.MTLSServerWithSource(tlsconfig.AuthorizeID(id), source))
	check(err)
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func(conn net.Conn) {
				defer conn.Close()
				_, _ = io.WriteString(conn, "hello")
			}(conn)
		}
	}()
	conn, err := spiffetls.DialWithMode(ctx, "tcp", listener.Addr().String(),
		spiffetls.MTLSClientWithSource(tlsconfig.AuthorizeID(id), source))
	check(err)
	defer conn.Close()
	heard, err := io.ReadAll(conn)
	check(err)
	fmt.Println("mtls", string(heard))
	other, err := spiffetls.DialWithMode(ctx, "tcp", listener.Addr().String(),
		spiffetls.MTLSClientWithSource(tlsconfig.AuthorizeID(spiffeid.RequireFromString("spiffe://example.org/other")), source))
	if err == nil {
		if _, err = io.ReadAll(other); err == nil {
			log.Fatal("a peer with another ID was taken")
		}
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
