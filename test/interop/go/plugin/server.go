package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/url"
	"sync"
	"time"

	"github.com/spiffe/spire-plugin-sdk/pluginsdk"
	agentstorev1 "github.com/spiffe/spire-plugin-sdk/proto/spire/hostservice/server/agentstore/v1"
	identityproviderv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/hostservice/server/identityprovider/v1"
	bundlepublisherv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/server/bundlepublisher/v1"
	credentialcomposerv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/server/credentialcomposer/v1"
	nodeattestorv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/server/nodeattestor/v1"
	notifierv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/server/notifier/v1"
	upstreamauthorityv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/server/upstreamauthority/v1"
	"github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"
)

// serverNodeAttestor believes who repeats a challenge backwards. The payload is the name of the node.
type serverNodeAttestor struct {
	base
	nodeattestorv1.UnimplementedNodeAttestorServer
	agents agentstorev1.AgentStoreServiceClient
}

func (p *serverNodeAttestor) BrokerHostServices(broker pluginsdk.ServiceBroker) error {
	if !broker.BrokerClient(&p.agents) {
		return status.Error(codes.FailedPrecondition, "no agent store")
	}
	return p.base.BrokerHostServices(broker)
}

func (p *serverNodeAttestor) Attest(stream nodeattestorv1.NodeAttestor_AttestServer) error {
	config := p.called(stream.Context())
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	name := string(first.GetPayload())
	challenge := []byte("challenge for " + name)
	if err := stream.Send(&nodeattestorv1.AttestResponse{Response: &nodeattestorv1.AttestResponse_Challenge{Challenge: challenge}}); err != nil {
		return err
	}
	answer, err := stream.Recv()
	if err != nil {
		p.heard("attest %s: %v", name, status.Code(err))
		return err
	}
	if !bytes.Equal(answer.GetChallengeResponse(), backwards(challenge)) {
		return status.Error(codes.PermissionDenied, "that is not backwards")
	}
	id := "spiffe://example.org/spire/agent/odd/" + name
	if config.Lie {
		id = "spiffe://elsewhere.org/spire/agent/odd/" + name
	}
	_, err = p.agents.GetAgentInfo(stream.Context(), &agentstorev1.GetAgentInfoRequest{AgentId: id})
	md, _ := metadata.FromIncomingContext(stream.Context())
	p.heard("attest %s from %v, known: %v", name, md.Get("X-Forwarded-Client-IP"), status.Code(err))
	return stream.Send(&nodeattestorv1.AttestResponse{Response: &nodeattestorv1.AttestResponse_AgentAttributes{AgentAttributes: &nodeattestorv1.AgentAttributes{
		SpiffeId: id, SelectorValues: []string{"name:" + name}, CanReattest: true,
	}}})
}

func backwards(text []byte) []byte {
	turned := make([]byte, len(text))
	for i, b := range text {
		turned[len(text)-1-i] = b
	}
	return turned
}

// upstreamAuthority signs with a root that it makes at its first call, and tells of a second root when it is asked for JWT keys.
type upstreamAuthority struct {
	base
	upstreamauthorityv1.UnimplementedUpstreamAuthorityServer
	once   sync.Once
	key    *ecdsa.PrivateKey
	root   *x509.Certificate
	keysMu sync.Mutex
	keys   []*types.JWTKey
}

func (p *upstreamAuthority) start() {
	p.once.Do(func() {
		p.key, p.root = newRoot("one")
	})
}

func newRoot(name string) (*ecdsa.PrivateKey, *x509.Certificate) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		URIs: []*url.URL{{Scheme: "spiffe", Host: "example.org"}},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return key, root
}

func (p *upstreamAuthority) MintX509CAAndSubscribe(req *upstreamauthorityv1.MintX509CARequest, stream upstreamauthorityv1.UpstreamAuthority_MintX509CAAndSubscribeServer) error {
	config := p.called(stream.Context())
	p.start()
	csr, err := x509.ParseCertificateRequest(req.Csr)
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	public := csr.PublicKey
	if config.Lie {
		other, _ := newRoot("other")
		public = other.Public()
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: csr.Subject, URIs: csr.URIs,
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, p.root, public, p.key)
	if err != nil {
		return err
	}
	if err := stream.Send(&upstreamauthorityv1.MintX509CAResponse{
		X509CaChain:       []*types.X509Certificate{{Asn1: der}},
		UpstreamX509Roots: []*types.X509Certificate{{Asn1: p.root.Raw}},
	}); err != nil {
		return err
	}
	_, second := newRoot("two")
	if err := stream.Send(&upstreamauthorityv1.MintX509CAResponse{
		UpstreamX509Roots: []*types.X509Certificate{{Asn1: p.root.Raw}, {Asn1: second.Raw}},
	}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

func (p *upstreamAuthority) PublishJWTKeyAndSubscribe(req *upstreamauthorityv1.PublishJWTKeyRequest, stream upstreamauthorityv1.UpstreamAuthority_PublishJWTKeyAndSubscribeServer) error {
	p.keysMu.Lock()
	p.keys = append(p.keys, req.JwtKey)
	keys := append([]*types.JWTKey{}, p.keys...)
	p.keysMu.Unlock()
	p.heard("jwt key %s", req.JwtKey.KeyId)
	if err := stream.Send(&upstreamauthorityv1.PublishJWTKeyResponse{UpstreamJwtKeys: keys}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

// composer marks all that is signed.
type composer struct {
	base
	credentialcomposerv1.UnimplementedCredentialComposerServer
}

func (p *composer) ComposeServerX509CA(ctx context.Context, req *credentialcomposerv1.ComposeServerX509CARequest) (*credentialcomposerv1.ComposeServerX509CAResponse, error) {
	req.Attributes.Subject.OrganizationalUnit = []string{"composed"}
	return &credentialcomposerv1.ComposeServerX509CAResponse{Attributes: req.Attributes}, nil
}

func (p *composer) ComposeWorkloadX509SVID(ctx context.Context, req *credentialcomposerv1.ComposeWorkloadX509SVIDRequest) (*credentialcomposerv1.ComposeWorkloadX509SVIDResponse, error) {
	config := p.called(ctx)
	attributes := req.Attributes
	attributes.Subject.CommonName = req.SpiffeId
	attributes.DnsSans = append(attributes.DnsSans, "composed.example.org")
	attributes.ExtraExtensions = []*credentialcomposerv1.X509Extension{{Oid: "1.2.3.4.5", Value: []byte{5, 0}}}
	if config.Lie {
		// A second subject alternative name, with who knows what in it.
		attributes.ExtraExtensions = []*credentialcomposerv1.X509Extension{{Oid: "2.5.29.17", Value: []byte{0x30, 0}}}
	}
	return &credentialcomposerv1.ComposeWorkloadX509SVIDResponse{Attributes: attributes}, nil
}

func (p *composer) ComposeWorkloadJWTSVID(ctx context.Context, req *credentialcomposerv1.ComposeWorkloadJWTSVIDRequest) (*credentialcomposerv1.ComposeWorkloadJWTSVIDResponse, error) {
	config := p.called(ctx)
	req.Attributes.Claims.Fields["composed"] = structpb.NewStringValue(req.SpiffeId)
	if config.Lie {
		req.Attributes.Claims.Fields["sub"] = structpb.NewStringValue("spiffe://example.org/somebody/else")
	}
	return &credentialcomposerv1.ComposeWorkloadJWTSVIDResponse{Attributes: req.Attributes}, nil
}

// notifier writes down what it is told.
type notifier struct {
	base
	notifierv1.UnimplementedNotifierServer
	identity identityproviderv1.IdentityProviderServiceClient
}

func (p *notifier) BrokerHostServices(broker pluginsdk.ServiceBroker) error {
	if !broker.BrokerClient(&p.identity) {
		return status.Error(codes.FailedPrecondition, "no identity provider")
	}
	return p.base.BrokerHostServices(broker)
}

func (p *notifier) Notify(ctx context.Context, req *notifierv1.NotifyRequest) (*notifierv1.NotifyResponse, error) {
	p.called(ctx)
	p.heard("updated %s roots=%d", req.GetBundleUpdated().Bundle.TrustDomain, len(req.GetBundleUpdated().Bundle.X509Authorities))
	response, err := p.identity.FetchX509Identity(ctx, &identityproviderv1.FetchX509IdentityRequest{})
	if err != nil {
		p.heard("identity %v", status.Code(err))
		return &notifierv1.NotifyResponse{}, nil
	}
	leaf, err := x509.ParseCertificate(response.Identity.CertChain[0])
	if err != nil {
		return nil, err
	}
	if _, err := x509.ParsePKCS8PrivateKey(response.Identity.PrivateKey); err != nil {
		return nil, err
	}
	p.heard("identity %s", leaf.URIs[0])
	return &notifierv1.NotifyResponse{}, nil
}

func (p *notifier) NotifyAndAdvise(ctx context.Context, req *notifierv1.NotifyAndAdviseRequest) (*notifierv1.NotifyAndAdviseResponse, error) {
	config := p.called(ctx)
	if config.Lie {
		return nil, status.Error(codes.PermissionDenied, "I advise against it")
	}
	p.heard("loaded %s roots=%d", req.GetBundleLoaded().Bundle.TrustDomain, len(req.GetBundleLoaded().Bundle.X509Authorities))
	return &notifierv1.NotifyAndAdviseResponse{}, nil
}

// publisher writes down what it is told, and fails the first time when it lies.
type publisher struct {
	base
	bundlepublisherv1.UnimplementedBundlePublisherServer
	tries int
}

func (p *publisher) PublishBundle(ctx context.Context, req *bundlepublisherv1.PublishBundleRequest) (*bundlepublisherv1.PublishBundleResponse, error) {
	config := p.called(ctx)
	p.tries++
	if config.Lie && p.tries == 1 {
		p.heard("refused")
		return nil, status.Error(codes.Unavailable, "not now")
	}
	p.heard("publish %s roots=%d", req.Bundle.TrustDomain, len(req.Bundle.X509Authorities))
	return &bundlepublisherv1.PublishBundleResponse{}, nil
}
