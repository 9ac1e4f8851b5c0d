// Command wire says what protobuf for Go makes of messages: each line of stdin is the name of a message and its bytes in hex, each line of
// stdout is `ok` and the message without unknown fields in hex, or `no` and what is wrong with it.
package main

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"os"
	"strings"

	_ "github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	_ "github.com/spiffe/spire-api-sdk/proto/spire/api/server/agent/v1"
	_ "github.com/spiffe/spire-api-sdk/proto/spire/api/server/bundle/v1"
	_ "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	_ "github.com/spiffe/spire-api-sdk/proto/spire/api/server/svid/v1"
	_ "github.com/spiffe/spire-api-sdk/proto/spire/api/server/trustdomain/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<24)
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for lines.Scan() {
		name, text, _ := strings.Cut(lines.Text(), " ")
		kind, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName(name))
		if err != nil {
			panic(name + ": " + err.Error())
		}
		wire, err := hex.DecodeString(text)
		if err != nil {
			panic(err)
		}
		message := kind.New().Interface()
		if err := (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(wire, message); err != nil {
			// Each build has a space there, or one that does not break.
			fmt.Fprintln(out, "no", strings.ReplaceAll(err.Error(), "\u00a0", " "))
			continue
		}
		again, err := proto.MarshalOptions{Deterministic: true}.Marshal(message)
		if err != nil {
			panic(err)
		}
		fmt.Fprintln(out, "ok", hex.EncodeToString(again))
	}
}
