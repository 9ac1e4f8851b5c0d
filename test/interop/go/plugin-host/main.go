// A host as go-plugin makes one: starts a workload attestor, asks it once, and says what happened.
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"github.com/spiffe/spire-plugin-sdk/private"
	metricsv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/hostservice/common/metrics/v1"
	workloadattestorv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/agent/workloadattestor/v1"
	configv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/service/common/config/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"
)

const pluginType = "WorkloadAttestor"

type metrics struct {
	metricsv1.UnimplementedMetricsServer
	counted chan struct{}
}

func (m metrics) IncrCounter(_ context.Context, request *metricsv1.IncrCounterRequest) (*emptypb.Empty, error) {
	fmt.Println("counted", request.Key, request.Val)
	close(m.counted)
	return &emptypb.Empty{}, nil
}

type client struct {
	goplugin.NetRPCUnsupportedPlugin
	metrics metrics
}

func (client) GRPCServer(*goplugin.GRPCBroker, *grpc.Server) error { return nil }

func (c client) GRPCClient(_ context.Context, broker *goplugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	go broker.AcceptAndServe(private.HostServiceProviderID, func(options []grpc.ServerOption) *grpc.Server {
		server := grpc.NewServer(options...)
		metricsv1.RegisterMetricsServer(server, c.metrics)
		return server
	})
	return conn, nil
}

func must(err error) {
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
}

// Arguments: "tls" or "plain", "one" or "several" connections, the plugin's command.
func main() {
	ctx := context.Background()
	host := metrics{counted: make(chan struct{})}
	plugin := goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig:     goplugin.HandshakeConfig{ProtocolVersion: 1, MagicCookieKey: pluginType, MagicCookieValue: pluginType},
		Cmd:                 exec.Command(os.Args[3], os.Args[4:]...),
		AutoMTLS:            os.Args[1] == "tls",
		GRPCBrokerMultiplex: os.Args[2] == "one",
		AllowedProtocols:    []goplugin.Protocol{goplugin.ProtocolGRPC},
		Plugins:             goplugin.PluginSet{pluginType: client{metrics: host}},
		Logger:              hclog.New(&hclog.LoggerOptions{Level: hclog.Info}),
	})
	defer plugin.Kill()
	protocol, err := plugin.Client()
	must(err)
	must(protocol.Ping())
	raw, err := protocol.Dispense(pluginType)
	must(err)
	conn := raw.(*grpc.ClientConn)
	names, err := private.Init(ctx, conn, []string{"spire.hostservice.common.metrics.v1.Metrics"})
	must(err)
	fmt.Println(names)
	_, err = configv1.NewConfigClient(conn).Configure(ctx, &configv1.ConfigureRequest{
		CoreConfiguration: &configv1.CoreConfiguration{TrustDomain: "example.org"},
	})
	must(err)
	answer, err := workloadattestorv1.NewWorkloadAttestorClient(conn).Attest(ctx, &workloadattestorv1.AttestRequest{Pid: 7})
	must(err)
	<-host.counted
	fmt.Println(answer.SelectorValues)
	must(private.Deinit(ctx, conn))
	plugin.Kill()
	fmt.Println("exited:", plugin.Exited())
}
