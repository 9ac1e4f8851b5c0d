// Command connectclient calls a Turret server with connect-go and prints one line a case.
//
// usage: connectclient URL DESCRIPTORS (a FileDescriptorSet as `buf build -o` writes it)
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

type caller struct {
	url   string
	files *protoregistry.Files
}

func main() {
	image, err := os.ReadFile(os.Args[2])
	must(err)
	set := &descriptorpb.FileDescriptorSet{}
	must(proto.Unmarshal(image, set))
	files, err := protodesc.NewFiles(set)
	must(err)
	c := caller{os.Args[1], files}

	c.unary("proto", "spire.api.server.bundle.v1.Bundle", "GetBundle", `{}`)
	c.unary("json", "spire.api.server.bundle.v1.Bundle", "GetBundle", `{"outputMask":{"jwtAuthorities":true}}`, connect.WithProtoJSON())
	c.unary("anonymous", "spire.api.server.entry.v1.Entry", "ListEntries", `{}`)
	c.unary("anonymous json", "spire.api.server.entry.v1.Entry", "ListEntries", `{}`, connect.WithProtoJSON())
	c.unary("gzip", "spire.api.server.bundle.v1.Bundle", "GetBundle", `{"outputMask":{"refreshHint":true}}`, connect.WithSendGzip())
	c.unary("not served", "SpiffeWorkloadAPI", "FetchJWTSVID", `{}`)
	c.stream("stream", "turret.changes.v1.Changes", "Watch")
	c.stream("stream json", "turret.changes.v1.Changes", "Watch", connect.WithProtoJSON())
}

func (c caller) client(service, method string, options []connect.ClientOption) (*connect.Client[dynamicpb.Message, dynamicpb.Message], protoreflect.MethodDescriptor) {
	found, err := c.files.FindDescriptorByName(protoreflect.FullName(service + "." + method))
	must(err)
	descriptor := found.(protoreflect.MethodDescriptor)
	options = append(options, connect.WithSchema(descriptor), connect.WithResponseInitializer(func(_ connect.Spec, message any) error {
		*message.(*dynamicpb.Message) = *dynamicpb.NewMessage(descriptor.Output())
		return nil
	}))
	return connect.NewClient[dynamicpb.Message, dynamicpb.Message](http.DefaultClient, c.url+"/"+service+"/"+method, options...), descriptor
}

func (c caller) unary(name, service, method, request string, options ...connect.ClientOption) {
	client, descriptor := c.client(service, method, options)
	message := dynamicpb.NewMessage(descriptor.Input())
	must(protojson.Unmarshal([]byte(request), message))
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	answer, err := client.CallUnary(ctx, connect.NewRequest(message))
	if err != nil {
		failed(name, err)
		return
	}
	fields := ""
	// In their order: Range has none.
	all := descriptor.Output().Fields()
	for i := 0; i < all.Len(); i++ {
		field := all.Get(i)
		if !answer.Msg.Has(field) {
			continue
		}
		if value := answer.Msg.Get(field); field.IsList() {
			fields += fmt.Sprintf(" %s=%d", field.Name(), value.List().Len())
		} else {
			fields += fmt.Sprintf(" %s=%v", field.Name(), value)
		}
	}
	fmt.Printf("%s: OK%s\n", name, fields)
}

func (c caller) stream(name, service, method string, options ...connect.ClientOption) {
	client, descriptor := c.client(service, method, options)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	stream, err := client.CallServerStream(ctx, connect.NewRequest(dynamicpb.NewMessage(descriptor.Input())))
	if err != nil {
		failed(name, err)
		return
	}
	defer stream.Close()
	received := 0
	for stream.Receive() {
		received++
	}
	fmt.Printf("%s: received %d\n", name, received)
	failed(name, stream.Err())
}

func failed(name string, err error) {
	found := connect.CodeOf(err)
	details := 0
	if asConnect, ok := err.(*connect.Error); ok {
		details = len(asConnect.Details())
	}
	fmt.Printf("%s: %s (%v) details=%d\n", name, found, err, details)
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
