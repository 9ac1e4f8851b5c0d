import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { BinaryWriter } from '@bufbuild/protobuf/wire'
import { describe, expect, test } from 'vitest'
import { Node } from './envoy/config/core/v3.ts'
import {
  CertificateValidationContext,
  Secret,
  SPIFFECertValidatorConfig,
} from './envoy/extensions/transport_sockets/tls/v3.ts'
import { DiscoveryRequest, DiscoveryResponse } from './envoy/service/discovery/v3.ts'
import { HealthCheckResponse } from './grpc/health/v1.ts'
import * as workload from './spiffe/workload.ts'
import * as agents from './spire/api/server/agent/v1.ts'
import * as bundles from './spire/api/server/bundle/v1.ts'
import * as entries from './spire/api/server/entry/v1.ts'
import * as svids from './spire/api/server/svid/v1.ts'
import * as types from './spire/api/types.ts'
import * as stored from './spire/common.ts'
import * as journal from './spire/server/journal.ts'

interface Message {
  encode(message: never, writer?: BinaryWriter): BinaryWriter
  decode(bytes: Uint8Array): object
}

const hex = (text: string) => new Uint8Array(Buffer.from(text.replaceAll(' ', ''), 'hex'))
const toHex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')

/** Field names by number, found out by decoding one field at a time: `1 id, 2 path`. */
function fieldNumbers(type: Message): string {
  const empty = type.decode(new Uint8Array()) as Record<string, unknown>
  const found: string[] = []
  for (let number = 1; number < 32; number++) {
    // The content reads as a string, as bytes and as any message; the varint as integer, boolean and enum.
    const asBytes = new BinaryWriter().tag(number, 2).bytes(Uint8Array.of(0x0a, 0)).finish()
    const asVarint = new BinaryWriter().tag(number, 0).uint32(1).finish()
    for (const bytes of [asBytes, asVarint]) {
      const message = type.decode(bytes) as Record<string, unknown>
      for (const name of Object.keys(message)) {
        if (JSON.stringify(message[name]) !== JSON.stringify(empty[name])) found.push(`${number} ${name}`)
      }
    }
  }
  return found.join(', ')
}

const FIELDS: readonly [name: string, type: Message, fields: string][] = [
  ['SPIFFEID', types.SPIFFEID, '1 trustDomain, 2 path'],
  ['Selector', types.Selector, '1 type, 2 value'],
  ['X509SVID', types.X509SVID, '1 certChain, 2 id, 3 expiresAt, 4 hint'],
  ['JWTSVID', types.JWTSVID, '1 token, 2 id, 3 expiresAt, 4 issuedAt, 5 hint'],
  ['WITSVID', types.WITSVID, '1 token, 2 id, 3 expiresAt, 4 issuedAt, 5 hint'],
  ['JWTKey', types.JWTKey, '1 publicKey, 2 keyId, 3 expiresAt, 4 tainted'],
  [
    'Bundle',
    types.Bundle,
    '1 trustDomain, 2 x509Authorities, 3 jwtAuthorities, 4 refreshHint, 5 sequenceNumber, 6 witAuthorities',
  ],
  [
    'Agent',
    types.Agent,
    '1 id, 2 attestationType, 3 x509svidSerialNumber, 4 x509svidExpiresAt, 5 selectors, 6 banned, 7 canReattest, 8 agentVersion',
  ],
  [
    'Entry',
    types.Entry,
    '1 id, 2 spiffeId, 3 parentId, 4 selectors, 5 x509SvidTtl, 6 federatesWith, 7 admin, 8 downstream, 9 expiresAt, ' +
      '10 dnsNames, 11 revisionNumber, 12 storeSvid, 13 jwtSvidTtl, 14 hint, 15 createdAt, 16 additionalAttributes',
  ],
  [
    'EntryMask',
    types.EntryMask,
    '2 spiffeId, 3 parentId, 4 selectors, 5 x509SvidTtl, 6 federatesWith, 7 admin, 8 downstream, 9 expiresAt, ' +
      '10 dnsNames, 11 revisionNumber, 12 storeSvid, 13 jwtSvidTtl, 14 hint, 15 createdAt, 16 additionalAttributes',
  ],
  [
    'FederationRelationship',
    types.FederationRelationship,
    '1 trustDomain, 2 bundleEndpointUrl, 3 httpsWeb, 4 httpsSpiffe, 5 trustDomainBundle',
  ],
  ['AttestAgentRequest', agents.AttestAgentRequest, '1 params, 2 challengeResponse'],
  ['AttestAgentResponse', agents.AttestAgentResponse, '1 result, 2 challenge'],
  ['AttestAgentResponse.Result', agents.AttestAgentResponse_Result, '1 svid, 2 reattestable'],
  [
    'ListAgentsRequest.Filter',
    agents.ListAgentsRequest_Filter,
    '1 byAttestationType, 2 bySelectorMatch, 3 byBanned, 4 byCanReattest, 5 byExpiresBefore',
  ],
  [
    'ListEntriesRequest.Filter',
    entries.ListEntriesRequest_Filter,
    '1 bySpiffeId, 2 byParentId, 3 bySelectors, 4 byFederatesWith, 5 byHint, 6 byDownstream',
  ],
  ['SyncAuthorizedEntriesResponse', entries.SyncAuthorizedEntriesResponse, '1 entryRevisions, 2 entries, 3 more'],
  ['EntryRevision', entries.EntryRevision, '1 id, 2 revisionNumber, 3 createdAt'],
  [
    'AppendBundleRequest',
    bundles.AppendBundleRequest,
    '1 x509Authorities, 2 jwtAuthorities, 3 outputMask, 4 witAuthorities',
  ],
  ['MintWITSVIDRequest', svids.MintWITSVIDRequest, '1 id, 2 publicKey, 3 ttl, 4 signingAlgorithm'],
  ['NewX509SVIDParams', svids.NewX509SVIDParams, '1 entryId, 2 csr'],
  ['NewDownstreamX509CAResponse', svids.NewDownstreamX509CAResponse, '1 caCertChain, 2 x509Authorities'],
  ['Workload X509SVIDResponse', workload.X509SVIDResponse, '1 svids, 2 crl, 3 federatedBundles'],
  ['Workload X509SVID', workload.X509SVID, '1 spiffeId, 2 x509Svid, 3 x509SvidKey, 4 bundle, 5 hint'],
  ['Workload JWTSVIDRequest', workload.JWTSVIDRequest, '1 audience, 2 spiffeId'],
  ['Workload ValidateJWTSVIDResponse', workload.ValidateJWTSVIDResponse, '1 spiffeId, 2 claims'],
  ['Workload WITSVID', workload.WITSVID, '1 spiffeId, 2 witSvid, 3 witSvidKey, 4 hint'],
  [
    'journal X509CAEntry',
    journal.X509CAEntry,
    '1 slotId, 2 issuedAt, 3 certificate, 4 upstreamChain, 5 status, 6 authorityId, 7 notAfter, 8 upstreamAuthorityId',
  ],
  ['journal Entries', journal.Entries, '1 x509CAs, 2 jwtKeys, 3 witKeys'],
  [
    'stored Bundle',
    stored.Bundle,
    '1 trustDomainId, 2 rootCas, 3 jwtSigningKeys, 4 refreshHint, 5 sequenceNumber, 6 witSigningKeys',
  ],
  ['stored PublicKey', stored.PublicKey, '1 pkixBytes, 2 kid, 3 notAfter, 4 taintedKey'],
  ['stored Certificate', stored.Certificate, '1 derBytes, 2 taintedKey'],
  ['HealthCheckResponse', HealthCheckResponse, '1 status'],
  ['Envoy Node', Node, '1 id, 2 cluster, 3 metadata, 6 userAgentName, 7 userAgentVersion, 8 userAgentBuildVersion'],
  ['Envoy Secret', Secret, '1 name, 2 tlsCertificate, 4 validationContext'],
  ['Envoy CertificateValidationContext', CertificateValidationContext, '1 trustedCa, 12 customValidatorConfig'],
  ['Envoy SPIFFECertValidatorConfig', SPIFFECertValidatorConfig, '1 trustDomains'],
  [
    'Envoy DiscoveryRequest',
    DiscoveryRequest,
    '1 versionInfo, 2 node, 3 resourceNames, 4 typeUrl, 5 responseNonce, 6 errorDetail',
  ],
  [
    'Envoy DiscoveryResponse',
    DiscoveryResponse,
    '1 versionInfo, 2 resources, 3 canary, 4 typeUrl, 5 nonce, 6 controlPlane',
  ],
]

test.each(FIELDS)('%s has the published names and numbers', (_name, type, fields) => {
  expect(fieldNumbers(type)).toBe(fields)
})

describe('bytes written by hand', () => {
  test('an X509SVIDResponse of the Workload API', () => {
    const svid = '0a0c7370696666653a2f2f612f62 12023082 1a00 220130'
    const message = workload.X509SVIDResponse.decode(hex(`0a17 ${svid} 1201ff 1a08 0a036b6579 120107`))
    expect(message).toEqual({
      svids: [
        {
          spiffeId: 'spiffe://a/b',
          x509Svid: Uint8Array.of(0x30, 0x82),
          x509SvidKey: new Uint8Array(),
          bundle: Uint8Array.of(0x30),
          hint: '',
        },
      ],
      crl: [Uint8Array.of(0xff)],
      federatedBundles: { key: Uint8Array.of(7) },
    })
  })

  test('an Entry', () => {
    const entry: types.Entry = {
      ...types.Entry.decode(new Uint8Array()),
      id: 'e',
      spiffeId: { trustDomain: 'a', path: '/b' },
      selectors: [{ type: 'unix', value: 'uid:0' }],
      x509SvidTtl: 300,
      admin: true,
      expiresAt: -1,
      additionalAttributes: { disableX509SvidPrefetch: false, jwtSvidIncludeJti: true },
    }
    const bytes =
      '0a0165 12070a016112022f62 220d0a04756e697812057569643a30 28ac02 3801 48ffffffffffffffffff01 8201021001'
    expect(toHex(types.Entry.encode(entry).finish())).toBe(toHex(hex(bytes)))
    expect(types.Entry.decode(hex(bytes))).toEqual(entry)
  })

  test('a filter tells a wrapped false from nothing', () => {
    expect(agents.ListAgentsRequest_Filter.decode(hex('1a00'))).toMatchObject({
      byBanned: false,
      byCanReattest: undefined,
    })
    const filter = { ...agents.ListAgentsRequest_Filter.decode(new Uint8Array()), byBanned: false }
    expect(toHex(agents.ListAgentsRequest_Filter.encode(filter).finish())).toBe('1a00')
  })

  test('claims are a plain object', () => {
    const bytes = hex('0a0161 1213 0a11 0a03737562 120a 1a08 7370696666653a61')
    const message = workload.ValidateJWTSVIDResponse.decode(bytes)
    expect(message).toEqual({ spiffeId: 'a', claims: { sub: 'spiffe:a' } })
    expect(toHex(workload.ValidateJWTSVIDResponse.encode(message).finish())).toBe(toHex(bytes))
    const claims = { aud: ['a', 'b'], exp: 1.5, nested: { yes: true, nothing: null } }
    const again = workload.ValidateJWTSVIDResponse.encode({ spiffeId: '', claims }).finish()
    expect(workload.ValidateJWTSVIDResponse.decode(again).claims).toEqual(claims)
  })

  test('of a oneof the arm that came is set', () => {
    expect(agents.AttestAgentResponse.decode(hex('1200'))).toEqual({ result: undefined, challenge: new Uint8Array() })
    expect(agents.AttestAgentResponse.decode(hex('0a021001'))).toEqual({
      result: { svid: undefined, reattestable: true },
      challenge: undefined,
    })
  })
})

describe('input that is refused', () => {
  const svid: types.X509SVID = {
    certChain: [Uint8Array.of(1, 2, 3)],
    id: { trustDomain: 'example.org', path: '/workload' },
    expiresAt: 1_700_000_000,
    hint: '',
  }
  const whole = svids.MintX509SVIDResponse.encode({ svid }).finish()

  test.each(Array.from({ length: whole.length - 1 }, (_, index) => index + 1))(
    'a message cut after %i bytes',
    (length) => {
      expect(() => svids.MintX509SVIDResponse.decode(whole.subarray(0, length))).toThrow()
    },
  )

  test('integers that a number cannot hold', () => {
    expect(types.JoinToken.decode(hex('10ffffffffffffff0f')).expiresAt).toBe(Number.MAX_SAFE_INTEGER)
    expect(() => types.JoinToken.decode(hex('108080808080808010'))).toThrow(/beyond 2/)
    expect(() => types.JoinToken.decode(hex('1080808080808080808001'))).toThrow(/beyond 2/)
    expect(() => types.Bundle.decode(hex('28ffffffffffffffffff01'))).toThrow(/beyond 2/)
  })

  test('messages nested without end', () => {
    // Value 6 holds a ListValue, whose field 1 is a Value again.
    let value = hex('')
    for (let depth = 0; depth < 200; depth++)
      value = new BinaryWriter()
        .tag(depth % 2 ? 6 : 1, 2)
        .bytes(value)
        .finish()
    const claims = new BinaryWriter().tag(1, 2).bytes(new BinaryWriter().tag(2, 2).bytes(value).finish()).finish()
    const bytes = new BinaryWriter().tag(2, 2).bytes(claims).finish()
    expect(() => workload.ValidateJWTSVIDResponse.decode(bytes)).toThrow(/nested too deeply/)
  })
})

/** Every method on the wire is `/package.Service/Method`. */
const SERVICES: Readonly<Record<string, number>> = {
  SpiffeWorkloadAPI: 7,
  'envoy.service.secret.v3.SecretDiscoveryService': 3,
  'grpc.health.v1.Health': 3,
  'spiffe.broker.API': 4,
  'spire.agent.debug.v1.Debug': 1,
  'spire.api.agent.delegatedidentity.v1.DelegatedIdentity': 4,
  'spire.api.agent.logger.v1.Logger': 3,
  'spire.api.server.agent.v1.Agent': 9,
  'spire.api.server.bundle.v1.Bundle': 11,
  'spire.api.server.debug.v1.Debug': 1,
  'spire.api.server.entry.v1.Entry': 8,
  'spire.api.server.localauthority.v1.LocalAuthority': 17,
  'spire.api.server.logger.v1.Logger': 3,
  'spire.api.server.svid.v1.SVID': 7,
  'spire.api.server.trustdomain.v1.TrustDomain': 6,
  'turret.changes.v1.Changes': 2,
  'turret.exchange.v1.Exchange': 3,
  'plugin.GRPCBroker': 1,
  'plugin.GRPCController': 1,
  'plugin.GRPCStdio': 1,
  'spire.hostservice.common.metrics.v1.Metrics': 5,
  'spire.hostservice.server.agentstore.v1.AgentStore': 1,
  'spire.hostservice.server.identityprovider.v1.IdentityProvider': 1,
  'spire.plugin.agent.keymanager.v1.KeyManager': 4,
  'spire.plugin.agent.nodeattestor.v1.NodeAttestor': 1,
  'spire.plugin.agent.svidstore.v1.SVIDStore': 2,
  'spire.plugin.agent.workloadattestor.v1.WorkloadAttestor': 2,
  'spire.plugin.server.bundlepublisher.v1.BundlePublisher': 1,
  'spire.plugin.server.credentialcomposer.v1.CredentialComposer': 5,
  'spire.plugin.server.keymanager.v1.KeyManager': 4,
  'spire.plugin.server.nodeattestor.v1.NodeAttestor': 1,
  'spire.plugin.server.notifier.v1.Notifier': 2,
  'spire.plugin.server.upstreamauthority.v1.UpstreamAuthority': 3,
  'spire.service.common.config.v1.Config': 2,
  'spire.service.private.init.v1.Init': 2,
}

test('services are called what they are called on the wire, with all their methods', () => {
  const found: Record<string, number> = {}
  for (const file of readdirSync(import.meta.dirname, { recursive: true, encoding: 'utf8' })) {
    if (!file.endsWith('.proto')) continue
    const source = readFileSync(join(import.meta.dirname, file), 'utf8')
    const name = /^package ([\w.]+);/m.exec(source)?.[1]
    for (const [, service, methods] of source.matchAll(/^service (\w+) \{(.*?)^\}/gms))
      found[name ? `${name}.${service}` : service!] = methods!.match(/^ {2}rpc /gm)?.length ?? 0
  }
  expect(found).toEqual(SERVICES)
})
