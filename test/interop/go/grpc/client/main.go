// Command client calls a server of package transport with grpc-go and prints one line a case.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/status"
	"turret.test/grpc/raw"
)

func main() {
	conn, err := grpc.NewClient(os.Args[1], grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(raw.Codec{})))
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	unary := func(name, method string, request []byte, timeout time.Duration, options ...grpc.CallOption) {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		var reply []byte
		err := conn.Invoke(ctx, method, &request, &reply, options...)
		// grpc-go makes a call again by itself when its connection goes away, but keeps no large message for that.
		for try := 0; try < 5 && len(request) > 256<<10 && status.Code(err) == codes.Unavailable; try++ {
			err = conn.Invoke(ctx, method, &request, &reply, options...)
		}
		found := status.Convert(err)
		fmt.Printf("%s: %s %q details=%d bytes=%d\n", name, found.Code(), found.Message(), len(found.Proto().GetDetails()), len(reply))
	}
	unary("echo", "/test.Echo/Unary", []byte{0, 1}, 5*time.Second)
	unary("big", "/test.Echo/Unary", make([]byte, 4_000_000), 5*time.Second)
	unary("too big", "/test.Echo/Unary", make([]byte, 4_194_305), 5*time.Second)
	unary("details", "/test.Echo/Unary", []byte{1}, 5*time.Second)
	unary("method", "/test.Echo/No", nil, 5*time.Second)
	unary("service", "/test.No/No", nil, 5*time.Second)
	unary("gzip", "/test.Echo/Unary", []byte{0}, 5*time.Second, grpc.UseCompressor(gzip.Name))
	unary("deadline", "/test.Echo/Unary", []byte{3}, 100*time.Millisecond)

	chat, err := conn.NewStream(context.Background(), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/test.Echo/Chat")
	if err != nil {
		panic(err)
	}
	for _, last := range []byte{5, 9} {
		request, reply := []byte{last}, []byte{}
		if err := chat.SendMsg(&request); err != nil {
			panic(err)
		}
		if err := chat.RecvMsg(&reply); err != nil {
			panic(err)
		}
		fmt.Println("chat:", reply)
	}
	var reply []byte
	fmt.Println("chat end:", chat.RecvMsg(&reply))
	failed := 0
	for i := 0; i < 2000; i++ {
		request := []byte{0}
		if err := conn.Invoke(context.Background(), "/test.Echo/Unary", &request, &reply); err != nil {
			failed++
		}
	}
	fmt.Println("failed of 2000:", failed)
}
