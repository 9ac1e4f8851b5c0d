package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"sync"

	keymanagerv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/server/keymanager/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

type key struct {
	signer crypto.Signer
	public *keymanagerv1.PublicKey
}

type keyManager struct {
	base
	keymanagerv1.UnimplementedKeyManagerServer
	keysMu sync.Mutex
	keys   map[string]key
}

func newKeyManager() *keyManager { return &keyManager{keys: map[string]key{}} }

func (p *keyManager) GenerateKey(ctx context.Context, req *keymanagerv1.GenerateKeyRequest) (*keymanagerv1.GenerateKeyResponse, error) {
	p.called(ctx)
	var signer crypto.Signer
	var err error
	switch req.KeyType {
	case keymanagerv1.KeyType_EC_P256:
		signer, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case keymanagerv1.KeyType_EC_P384:
		signer, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case keymanagerv1.KeyType_RSA_2048:
		signer, err = rsa.GenerateKey(rand.Reader, 2048)
	default:
		return nil, status.Errorf(codes.InvalidArgument, "no key type %s", req.KeyType)
	}
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(der)
	public := &keymanagerv1.PublicKey{Id: req.KeyId, Type: req.KeyType, PkixData: der, Fingerprint: hex.EncodeToString(sum[:])}
	p.keysMu.Lock()
	p.keys[req.KeyId] = key{signer: signer, public: public}
	p.keysMu.Unlock()
	p.heard("generate %s", req.KeyId)
	return &keymanagerv1.GenerateKeyResponse{PublicKey: public}, nil
}

func (p *keyManager) GetPublicKey(ctx context.Context, req *keymanagerv1.GetPublicKeyRequest) (*keymanagerv1.GetPublicKeyResponse, error) {
	p.keysMu.Lock()
	defer p.keysMu.Unlock()
	return &keymanagerv1.GetPublicKeyResponse{PublicKey: p.keys[req.KeyId].public}, nil
}

func (p *keyManager) GetPublicKeys(ctx context.Context, req *keymanagerv1.GetPublicKeysRequest) (*keymanagerv1.GetPublicKeysResponse, error) {
	p.keysMu.Lock()
	defer p.keysMu.Unlock()
	response := new(keymanagerv1.GetPublicKeysResponse)
	for _, key := range p.keys {
		response.PublicKeys = append(response.PublicKeys, key.public)
	}
	return response, nil
}

func (p *keyManager) SignData(ctx context.Context, req *keymanagerv1.SignDataRequest) (*keymanagerv1.SignDataResponse, error) {
	config := p.called(ctx)
	p.keysMu.Lock()
	key, ok := p.keys[req.KeyId]
	p.keysMu.Unlock()
	if !ok {
		return nil, status.Errorf(codes.NotFound, "no such key %q", req.KeyId)
	}
	signature, err := key.signer.Sign(rand.Reader, req.Data, crypto.Hash(req.GetHashAlgorithm()))
	if err != nil {
		return nil, err
	}
	if config.Lie {
		signature[len(signature)-1] ^= 1
	}
	return &keymanagerv1.SignDataResponse{Signature: signature, KeyFingerprint: key.public.Fingerprint}, nil
}
