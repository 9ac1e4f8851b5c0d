// A plugin out of process of every kind, made with the public plugin SDK. The first argument says which it is.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/hcl"
	"github.com/spiffe/spire-plugin-sdk/pluginmain"
	"github.com/spiffe/spire-plugin-sdk/pluginsdk"
	metricsv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/hostservice/common/metrics/v1"
	agentnodeattestorv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/agent/nodeattestor/v1"
	svidstorev1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/agent/svidstore/v1"
	workloadattestorv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/agent/workloadattestor/v1"
	bundlepublisherv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/server/bundlepublisher/v1"
	credentialcomposerv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/server/credentialcomposer/v1"
	keymanagerv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/server/keymanager/v1"
	nodeattestorv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/server/nodeattestor/v1"
	notifierv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/server/notifier/v1"
	upstreamauthorityv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/server/upstreamauthority/v1"
	configv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/service/common/config/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// settings is what plugin_data may say.
type settings struct {
	// Greeting is logged when the plugin is configured.
	Greeting string `hcl:"greeting"`
	// File is where what was heard is written, a line each.
	File string `hcl:"file"`
	// Fail makes Configure refuse.
	Fail string `hcl:"fail"`
	// Hang makes calls of the kind's own service never end.
	Hang bool `hcl:"hang"`
	// Crash ends the process at the first call of the kind's own service.
	Crash bool `hcl:"crash"`
	// Lie has the plugin answer with something it must not.
	Lie bool `hcl:"lie"`
}

// base is what all kinds have: logger, host services and configuration.
type base struct {
	configv1.UnimplementedConfigServer
	logger  hclog.Logger
	metrics metricsv1.MetricsServiceClient
	mu      sync.Mutex
	config  settings
}

func (b *base) SetLogger(logger hclog.Logger) { b.logger = logger }

func (b *base) BrokerHostServices(broker pluginsdk.ServiceBroker) error {
	if !broker.BrokerClient(&b.metrics) {
		return status.Error(codes.FailedPrecondition, "no metrics")
	}
	return nil
}

func (b *base) Configure(ctx context.Context, req *configv1.ConfigureRequest) (*configv1.ConfigureResponse, error) {
	var config settings
	if err := hcl.Decode(&config, req.HclConfiguration); err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "unable to decode configuration: %v", err)
	}
	if config.Fail != "" {
		return nil, status.Error(codes.InvalidArgument, config.Fail)
	}
	b.mu.Lock()
	b.config = config
	b.mu.Unlock()
	b.logger.Warn("I was configured", "greeting", config.Greeting, "trust_domain", req.CoreConfiguration.TrustDomain)
	if _, err := b.metrics.MeasureSince(ctx, &metricsv1.MeasureSinceRequest{Key: []string{"configured"}, Time: time.Now().UnixNano()}); err != nil {
		return nil, err
	}
	b.heard("configure %s", config.Greeting)
	return &configv1.ConfigureResponse{}, nil
}

func (b *base) Validate(ctx context.Context, req *configv1.ValidateRequest) (*configv1.ValidateResponse, error) {
	var config settings
	if err := hcl.Decode(&config, req.HclConfiguration); err != nil {
		return &configv1.ValidateResponse{Valid: false, Notes: []string{err.Error()}}, nil
	}
	if config.Fail != "" {
		return &configv1.ValidateResponse{Valid: false, Notes: []string{config.Fail}}, nil
	}
	return &configv1.ValidateResponse{Valid: true}, nil
}

// heard appends a line to the file of the configuration.
func (b *base) heard(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.config.File == "" {
		return
	}
	file, err := os.OpenFile(b.config.File, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	defer file.Close()
	fmt.Fprintf(file, format+"\n", args...)
}

// called is at the begin of each call of the kind's own service.
func (b *base) called(ctx context.Context) settings {
	b.mu.Lock()
	config := b.config
	b.mu.Unlock()
	if config.Crash {
		fmt.Fprintln(os.Stderr, "I crash")
		os.Exit(3)
	}
	if config.Hang {
		<-ctx.Done()
	}
	return config
}

func main() {
	kind := strings.Join(os.Args[1:], " ")
	switch kind {
	case "server KeyManager":
		p := newKeyManager()
		pluginmain.Serve(keymanagerv1.KeyManagerPluginServer(p), configv1.ConfigServiceServer(p))
	case "server NodeAttestor":
		p := new(serverNodeAttestor)
		pluginmain.Serve(nodeattestorv1.NodeAttestorPluginServer(p), configv1.ConfigServiceServer(p))
	case "agent NodeAttestor":
		p := new(agentNodeAttestor)
		pluginmain.Serve(agentnodeattestorv1.NodeAttestorPluginServer(p), configv1.ConfigServiceServer(p))
	case "agent WorkloadAttestor":
		p := new(workloadAttestor)
		pluginmain.Serve(workloadattestorv1.WorkloadAttestorPluginServer(p), configv1.ConfigServiceServer(p))
	case "server UpstreamAuthority":
		p := new(upstreamAuthority)
		pluginmain.Serve(upstreamauthorityv1.UpstreamAuthorityPluginServer(p), configv1.ConfigServiceServer(p))
	case "server CredentialComposer":
		p := new(composer)
		pluginmain.Serve(credentialcomposerv1.CredentialComposerPluginServer(p), configv1.ConfigServiceServer(p))
	case "server Notifier":
		p := new(notifier)
		pluginmain.Serve(notifierv1.NotifierPluginServer(p), configv1.ConfigServiceServer(p))
	case "server BundlePublisher":
		p := new(publisher)
		pluginmain.Serve(bundlepublisherv1.BundlePublisherPluginServer(p), configv1.ConfigServiceServer(p))
	case "agent SVIDStore":
		p := new(svidStore)
		pluginmain.Serve(svidstorev1.SVIDStorePluginServer(p), configv1.ConfigServiceServer(p))
	default:
		fmt.Fprintf(os.Stderr, "no plugin is called %q\n", kind)
		os.Exit(2)
	}
}
