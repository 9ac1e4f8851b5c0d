package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"strings"

	agentnodeattestorv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/agent/nodeattestor/v1"
	svidstorev1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/agent/svidstore/v1"
	workloadattestorv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/agent/workloadattestor/v1"
)

// agentNodeAttestor repeats challenges backwards.
type agentNodeAttestor struct {
	base
	agentnodeattestorv1.UnimplementedNodeAttestorServer
}

func (p *agentNodeAttestor) AidAttestation(stream agentnodeattestorv1.NodeAttestor_AidAttestationServer) error {
	p.called(stream.Context())
	err := stream.Send(&agentnodeattestorv1.PayloadOrChallengeResponse{Data: &agentnodeattestorv1.PayloadOrChallengeResponse_Payload{Payload: []byte("node")}})
	for err == nil {
		var challenge *agentnodeattestorv1.Challenge
		if challenge, err = stream.Recv(); err != nil {
			break
		}
		err = stream.Send(&agentnodeattestorv1.PayloadOrChallengeResponse{Data: &agentnodeattestorv1.PayloadOrChallengeResponse_ChallengeResponse{ChallengeResponse: backwards(challenge.Challenge)}})
	}
	return err
}

// workloadAttestor knows the process by its number only.
type workloadAttestor struct {
	base
	workloadattestorv1.UnimplementedWorkloadAttestorServer
}

func (p *workloadAttestor) Attest(ctx context.Context, req *workloadattestorv1.AttestRequest) (*workloadattestorv1.AttestResponse, error) {
	config := p.called(ctx)
	values := []string{"answer:42", fmt.Sprintf("pid:%d", req.Pid)}
	if config.Lie {
		values = append(values, strings.Repeat("x", 1<<20), "")
	}
	return &workloadattestorv1.AttestResponse{SelectorValues: values}, nil
}

// svidStore writes down what it is given.
type svidStore struct {
	base
	svidstorev1.UnimplementedSVIDStoreServer
}

func (p *svidStore) PutX509SVID(ctx context.Context, req *svidstorev1.PutX509SVIDRequest) (*svidstorev1.PutX509SVIDResponse, error) {
	p.called(ctx)
	if _, err := x509.ParsePKCS8PrivateKey(req.Svid.PrivateKey); err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(req.Svid.CertChain[0])
	if err != nil {
		return nil, err
	}
	p.heard("put %s %s %s roots=%d", req.Svid.SpiffeID, leaf.URIs[0], strings.Join(req.Metadata, ","), len(req.Svid.Bundle))
	return &svidstorev1.PutX509SVIDResponse{}, nil
}

func (p *svidStore) DeleteX509SVID(ctx context.Context, req *svidstorev1.DeleteX509SVIDRequest) (*svidstorev1.DeleteX509SVIDResponse, error) {
	p.heard("delete %s", strings.Join(req.Metadata, ","))
	return &svidstorev1.DeleteX509SVIDResponse{}, nil
}
