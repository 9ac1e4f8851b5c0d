import { createPrivateKey, randomUUID } from 'node:crypto'
import { attestNode } from '../../agent/attest.ts'
import { BatchCreateEntryRequest, BatchCreateEntryResponse } from '../../proto/spire/api/server/entry/v1.ts'
import { BatchNewWITSVIDRequest, BatchNewWITSVIDResponse } from '../../proto/spire/api/server/svid/v1.ts'
import { Entry } from '../../proto/spire/api/types.ts'
import { type Certificate, parseCertificate } from '../../src/core/certificate.ts'
import { type Clock, epochSeconds, systemClock } from '../../src/core/clock.ts'
import { verifyX509Svid } from '../../src/core/path-validation.ts'
import { encodePem } from '../../src/core/pem.ts'
import { pathOf, type SpiffeId, spiffeId } from '../../src/core/spiffe-id.ts'
import { parseTrustDomain } from '../../src/core/trust-domain.ts'
import { joinTokenAttestor } from '../../src/plugins/nodeattestor/join_token/agent.ts'
import { x509PopAgentAttestor } from '../../src/plugins/nodeattestor/x509pop/agent.ts'
import { generateSigner, nodeVerifier } from '../../src/plugins/signer.ts'
import { connectHttp } from '../../src/transport/http-client.ts'
import { type HttpIdentity, x509Credential } from '../../src/transport/http-signature.ts'
import type { Credential } from '../../src/transport/message-signature.ts'
import { witCredential } from '../../src/transport/wit-signature.ts'
import type { Turret } from '../../workers/turret.ts'
import { makeCertificate } from './x509.ts'

export const TRUST_DOMAIN = parseTrustDomain('example.org')
export const ADMIN_ID = spiffeId(TRUST_DOMAIN, '/admin')
/** A key-encryption key of tests. */
export const KEK = '00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff'

const NOW = Math.floor(Date.now() / 1000)
const validity = { notBefore: NOW - 60, notAfter: NOW + 86_400 }
const nodeCa = await makeCertificate({ name: 'nodes', ca: true, ...validity })
/** What x509pop trusts here. */
export const NODE_CA_PEM = encodePem('CERTIFICATE', nodeCa.der)

/** What a test needs to know of a server that has nobody yet. */
export interface Seed {
  readonly admin: HttpIdentity
  /** Join tokens that were not used yet; each test takes one. */
  readonly tokens: string[]
  readonly roots: readonly Certificate[]
}

/** Puts into a server what an operator would: an admin's SVID and join tokens. */
export async function seed(turret: Turret): Promise<Seed> {
  const { deps, trust } = await turret.server()
  const signer = await generateSigner('ec-p256')
  const { chain } = await deps.ca.signWorkloadX509({ id: ADMIN_ID, spki: signer.publicKey, ttlSeconds: 3600 })
  const tokens = Array.from({ length: 8 }, () => randomUUID())
  const expiresAt = epochSeconds(deps.clock) + 600
  for (const value of tokens) await deps.store.joinTokens.create({ value, expiresAt })
  return { admin: { chain, signer }, tokens, roots: await trust.roots(TRUST_DOMAIN) }
}

/** Where a server answers. */
export interface Place {
  readonly url: string
  readonly roots: readonly Certificate[]
  /** How the server is configured to be called; default its URL. */
  readonly audience?: string
  readonly fetch?: typeof fetch
  readonly clock?: Clock
}

/** A channel of somebody to the server, whose signature on each answer is checked. */
export function channelTo(place: Place, identity?: HttpIdentity | Credential) {
  const { clock = systemClock } = place
  const verify = nodeVerifier()
  return connectHttp({
    serverUrl: place.url,
    ...(place.audience ? { audience: place.audience } : {}),
    credential: () => identity && ('chain' in identity ? x509Credential(identity) : identity),
    verifyServer: async (chain) => {
      const { spiffeId: id } = await verifyX509Svid({
        chain,
        rootsOf: (name) => (name === TRUST_DOMAIN ? place.roots : undefined),
        at: epochSeconds(clock),
        verify,
      })
      if (id !== spiffeId(TRUST_DOMAIN, '/spire/server')) throw new Error(`unexpected server ${id}`)
    },
    verify,
    clock,
    ...(place.fetch ? { fetch: place.fetch } : {}),
  })
}

export interface AttestedAgent {
  readonly id: SpiffeId
  readonly identity: HttpIdentity
}

export async function attestByToken(place: Place, token: string): Promise<AttestedAgent> {
  const signer = await generateSigner('ec-p256')
  const { chain } = await attestNode(channelTo(place), joinTokenAttestor(token), signer)
  return { id: spiffeId(TRUST_DOMAIN, `/spire/agent/join_token/${token}`), identity: { chain, signer } }
}

/** Attests with a certificate of a node, in two requests. */
export async function attestByCertificate(place: Place, name: string): Promise<AttestedAgent> {
  const node = await makeCertificate({ name, ...validity }, nodeCa)
  const privateKey = createPrivateKey({ key: Buffer.from(node.key.exportPrivateKey()), format: 'der', type: 'pkcs8' })
  const attestor = x509PopAgentAttestor(async () => ({ certificates: [node.der], privateKey }))
  const signer = await generateSigner('ec-p256')
  const { chain } = await attestNode(channelTo(place), attestor, signer)
  return { id: parseCertificate(chain[0]!).uris[0] as SpiffeId, identity: { chain, signer } }
}

const NEW_WIT = {
  path: '/spire.api.server.svid.v1.SVID/BatchNewWITSVID',
  request: BatchNewWITSVIDRequest,
  response: BatchNewWITSVIDResponse,
}

/** What a workload shows that got a WIT-SVID for its entry from its agent. */
export async function witOf(place: Place, agent: AttestedAgent, entryId: string): Promise<Credential> {
  const signer = await generateSigner('ec-p256')
  const params = [{ entryId, publicKey: signer.publicKey, signingAlgorithm: 'ES256' }]
  const { results } = await channelTo(place, agent.identity).unary(NEW_WIT, { params })
  return witCredential(results[0]!.svid!.token, signer)
}

const CREATE = {
  path: '/spire.api.server.entry.v1.Entry/BatchCreateEntry',
  request: BatchCreateEntryRequest,
  response: BatchCreateEntryResponse,
}

/** Creates an entry for `/path` below an agent, as whoever signs. @returns its id */
export async function createEntry(
  place: Place,
  by: HttpIdentity | Credential,
  parent: SpiffeId,
  path: string,
  more: { readonly uid?: number; readonly admin?: boolean; readonly downstream?: boolean } = {},
): Promise<string> {
  const entry = {
    ...Entry.decode(new Uint8Array(0)),
    spiffeId: { trustDomain: TRUST_DOMAIN, path },
    parentId: { trustDomain: TRUST_DOMAIN, path: pathOf(parent) },
    selectors: [{ type: 'unix', value: `uid:${more.uid ?? 1}` }],
    admin: more.admin ?? false,
    downstream: more.downstream ?? false,
  }
  const { results } = await channelTo(place, by).unary(CREATE, { entries: [entry], outputMask: undefined })
  const [result] = results
  if (result?.status?.code !== 0) throw new Error(`code ${result?.status?.code}: ${result?.status?.message}`)
  return result.entry!.id
}
