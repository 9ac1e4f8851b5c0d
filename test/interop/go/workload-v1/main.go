// A workload of 2020: go-spiffe v1, whose grpc-go writes the path of the socket into :authority, in Huffman's code.
package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spiffe/go-spiffe/workload"
)

type watcher struct{ updates chan *workload.X509SVIDs }

func (w watcher) UpdateX509SVIDs(svids *workload.X509SVIDs) { w.updates <- svids }
func (w watcher) OnError(err error)                         { fmt.Fprintln(os.Stderr, err) }

func main() {
	w := watcher{make(chan *workload.X509SVIDs, 8)}
	client, err := workload.NewX509SVIDClient(w, workload.WithAddr("unix://"+os.Args[1]))
	if err == nil {
		err = client.Start()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	select {
	case svids := <-w.updates:
		fmt.Println("x509", svids.Default().SPIFFEID, len(svids.Default().Certificates))
	case <-time.After(20 * time.Second):
		fmt.Fprintln(os.Stderr, "no SVID came")
		os.Exit(1)
	}
	_ = client.Stop()
}
