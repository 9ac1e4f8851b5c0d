import { createPublicKey, verify as verifySignature, X509Certificate } from 'node:crypto'
import { attestNode } from '../../../agent/attest.ts'
import { jsonToWire, jsonTypesOf } from '../../../proto/json.ts'
import type { Bundle, JWTSVID, WITSVID, X509SVID } from '../../../proto/spire/api/types.ts'
import { base64, fromBase64 } from '../../../src/core/base64.ts'
import { parseCertificate } from '../../../src/core/certificate.ts'
import { createCsr, parseCsr } from '../../../src/core/csr.ts'
import { StatusError } from '../../../src/core/error.ts'
import { SVID_SUBJECT } from '../../../src/core/x509-svid.ts'
import { joinTokenAttestor } from '../../../src/plugins/nodeattestor/join_token/agent.ts'
import { generateSigner } from '../../../src/plugins/signer.ts'
import { ADMIN_METHODS, TCP_METHODS } from '../../../src/server/methods.ts'
import type { GrpcChannel } from '../../../src/transport/grpc-client.ts'
import type { HttpIdentity } from '../../../src/transport/http-signature.ts'
import { describeCertificate, describeToken, digest, FAR_AWAY, maskMessage } from './describe.ts'
import inputs from './inputs.json' with { type: 'json' }

/** One way to call a fresh server. */
export interface Plane {
  readonly kind: 'grpc' | 'http'
  readonly admin: GrpcChannel
  /** A channel of somebody with an SVID of the server, or of nobody. */
  as(identity?: HttpIdentity): Promise<GrpcChannel>
}

/** An SVID beside what it should be verified with. */
export interface Golden {
  readonly name: string
  /** DER, leaf first. */
  readonly chain?: readonly Uint8Array[]
  readonly token?: string
}

export interface Transcript {
  /** Answers by what was asked, masked. */
  readonly calls: Readonly<Record<string, unknown>>
  readonly svids: Readonly<Record<string, unknown>>
  readonly issued: readonly Golden[]
  readonly bundle: Bundle
  /** Unary methods that were not called. */
  readonly left: readonly string[]
}

const TD = 'example.org'
const EMPTY = new Uint8Array(0)
const csr = Object.fromEntries(Object.entries(inputs.csrs).map(([name, text]) => [name, fromBase64(text)])) as Record<
  keyof typeof inputs.csrs,
  Uint8Array
>
const publicKey = {
  p256: fromBase64(inputs.publicKeys.p256),
  p384: fromBase64(inputs.publicKeys.p384),
}
const known = knownKeys()

const id = (path: string, trustDomain = TD) => ({ trustDomain, path })
const agentId = (token: string) => id(`/spire/agent/join_token/${token}`)

const ENTRIES = [
  {
    id: 'golden-web',
    path: '/web',
    selectors: [
      ['unix', 'uid:1'],
      ['k8s', 'ns:web'],
    ],
    hint: 'external',
  },
  {
    id: 'golden-db',
    path: '/db',
    selectors: [['unix', 'uid:2']],
    x509SvidTtl: 600,
    jwtSvidTtl: 60,
    dnsNames: ['db.example.org'],
  },
  {
    id: 'golden-far',
    path: '/far',
    selectors: [['unix', 'uid:3']],
    expiresAt: FAR_AWAY,
    federatesWith: ['far.example'],
  },
  { id: 'golden-nested', path: '/nested', selectors: [['unix', 'uid:4']], downstream: true },
].map(({ path, selectors, ...rest }) => ({
  spiffeId: id(path),
  parentId: agentId('golden-a'),
  selectors: selectors.map(([type, value]) => ({ type, value })),
  ...rest,
}))

/**
 * Calls every unary method that a plane offers, and makes twenty SVIDs, always in the same order and from the same inputs. It ends
 * with authorities that nobody trusts any more.
 */
export async function runScript({ kind, admin, as }: Plane): Promise<Transcript> {
  const rows = new Map(
    (kind === 'grpc' ? ADMIN_METHODS : TCP_METHODS)
      .filter(({ kind }) => kind === 'unary')
      .map((row) => [row.path, row]),
  )
  const left = new Set(rows.keys())
  const calls: Record<string, unknown> = {}
  const svids: Record<string, unknown> = {}
  const issued: Golden[] = []

  // biome-ignore lint/suspicious/noExplicitAny: rows of many message types; what is asked is plain data, answers are compared as text.
  async function call(who: GrpcChannel, suffix: string, request: object = {}, note = ''): Promise<any> {
    const row = [...rows.values()].find(({ path }) => path.endsWith(`.${suffix}`))
    if (row === undefined) return undefined
    left.delete(row.path)
    const title = suffix + (note && `: ${note}`)
    if (title in calls) throw new Error(`asked twice: ${title}`)
    try {
      const answer = await who.unary(row, complete(row, request), { timeoutMs: 20_000 })
      calls[title] = maskMessage(answer, known)
      return answer
    } catch (error) {
      if (!(error instanceof StatusError)) throw error
      calls[title] = maskMessage(`${error.code}: ${error.message}`, known)
      return undefined
    }
  }
  function keepX509(name: string, svid: X509SVID | undefined): void {
    if (!svid) throw new Error(`no ${name}: ${JSON.stringify(calls)}`)
    issued.push({ name, chain: svid.certChain })
    svids[name] = describeCertificate(svid.certChain[0]!, known)
  }
  function keepToken(name: string, svid: JWTSVID | WITSVID | undefined): void {
    if (!svid) throw new Error(`no ${name}: ${JSON.stringify(calls)}`)
    issued.push({ name, token: svid.token })
    svids[name] = describeToken(svid.token, known)
  }

  // Bundles and federation.
  const nobody = await as()
  await call(nobody, 'Bundle/GetBundle')
  await call(nobody, 'Bundle/CountBundles', {}, 'by nobody')
  await call(admin, 'Bundle/CountBundles')
  const far = {
    trustDomain: 'far.example',
    refreshHint: 60,
    sequenceNumber: 1,
    jwtAuthorities: [{ publicKey: publicKey.p256, keyId: 'far-1' }],
  }
  await call(admin, 'Bundle/BatchCreateFederatedBundle', { bundle: [far, far, { trustDomain: TD }] })
  await call(admin, 'Bundle/BatchUpdateFederatedBundle', {
    bundle: [{ ...far, refreshHint: 90 }],
    inputMask: { refreshHint: true },
  })
  await call(admin, 'Bundle/BatchSetFederatedBundle', { bundle: [{ trustDomain: 'farther.example', refreshHint: 5 }] })
  await call(admin, 'Bundle/ListFederatedBundles', { pageSize: 5 })
  await call(admin, 'Bundle/GetFederatedBundle', { trustDomain: 'far.example' })
  await call(admin, 'Bundle/GetFederatedBundle', { trustDomain: 'no' }, 'unknown')
  await call(admin, 'Bundle/BatchDeleteFederatedBundle', { trustDomains: ['farther.example', 'unknown.example'] })
  await call(admin, 'Bundle/AppendBundle', {
    jwtAuthorities: [{ publicKey: publicKey.p384, keyId: 'appended', expiresAt: FAR_AWAY }],
  })
  const relation = { trustDomain: 'related.example', bundleEndpointUrl: 'https://127.0.0.1:1/bundle', httpsWeb: {} }
  await call(admin, 'TrustDomain/BatchCreateFederationRelationship', {
    federationRelationships: [relation, { ...relation, trustDomain: '' }],
  })
  await call(admin, 'TrustDomain/BatchUpdateFederationRelationship', {
    federationRelationships: [{ ...relation, bundleEndpointUrl: 'https://127.0.0.1:2/' }],
  })
  await call(admin, 'TrustDomain/ListFederationRelationships')
  await call(admin, 'TrustDomain/GetFederationRelationship', { trustDomain: 'related.example' })
  await call(admin, 'TrustDomain/RefreshBundle', { trustDomain: 'unrelated.example' })
  await call(admin, 'TrustDomain/BatchDeleteFederationRelationship', { trustDomains: ['related.example'] })

  // An agent and its entries.
  await call(admin, 'Agent/CreateJoinToken', { ttl: 600, token: 'golden-a' })
  await call(admin, 'Agent/CreateJoinToken', { ttl: 0 }, 'without a life')
  const agentKey = await generateSigner('ec-p256')
  const attested = await attestNode(nobody, joinTokenAttestor('golden-a'), agentKey)
  keepX509('agent, attested', { certChain: [...attested.chain], id: undefined, expiresAt: 0, hint: '' })
  let agent = await as({ chain: attested.chain, signer: agentKey })
  await call(admin, 'Entry/BatchCreateEntry', {
    entries: [...ENTRIES, ENTRIES[0], { ...ENTRIES[1], id: 'bad', selectors: [] }],
  })
  await call(admin, 'Entry/CountEntries')
  await call(admin, 'Entry/BatchUpdateEntry', {
    entries: [{ id: 'golden-web', hint: 'internal' }],
    inputMask: { hint: true },
  })
  await call(admin, 'Entry/GetEntry', { id: 'golden-web' })
  await call(admin, 'Entry/GetEntry', { id: 'golden-nothing' }, 'unknown')
  await call(admin, 'Entry/ListEntries', { filter: { byHint: 'internal' }, outputMask: { spiffeId: true } })
  const sorted = await call(agent, 'Entry/GetAuthorizedEntries', { outputMask: { spiffeId: true } })
  // They come in no order.
  calls['Entry/GetAuthorizedEntries'] = sorted.entries.map((entry: { readonly id: string }) => entry.id).sort()
  await call(nobody, 'Entry/GetAuthorizedEntries', {}, 'by nobody')
  await call(agent, 'Entry/ListEntries', {}, 'by an agent')
  await call(agent, 'Agent/PostStatus', { currentBundleSerial: 1, agentVersion: '1.2.3' })
  const poll = await call(agent, 'Changes/Poll')
  calls['Changes/Poll'] = { bundle: poll.bundle, entries: poll.entries }

  // SVIDs.
  for (const [name, ttl] of [
    ['p256', 0],
    ['p384', 120],
    ['rsa', 7200],
    ['dns', 60],
    ['p256', 43_200],
    ['dns', 0],
  ] as const) {
    const what = `${name}, ${ttl} s`
    keepX509(`minted for ${what}`, (await call(admin, 'SVID/MintX509SVID', { csr: csr[name], ttl }, what))?.svid)
  }
  await call(admin, 'SVID/MintX509SVID', { csr: csr.foreign }, 'of another trust domain')
  await call(admin, 'SVID/MintX509SVID', { csr: csr.p256.slice(0, 40) }, 'cut off')
  const broken = csr.p256.slice()
  broken[broken.length - 1]! ^= 1
  await call(admin, 'SVID/MintX509SVID', { csr: broken }, 'with a wrong signature')
  const batch = await call(agent, 'SVID/BatchNewX509SVID', {
    params: ['golden-web', 'golden-db', 'golden-far', 'golden-nothing'].map((entryId, at) => ({
      entryId,
      csr: [csr.p256, csr.p384, csr.rsa, csr.p256][at],
    })),
  })
  for (const at of [0, 1, 2]) keepX509(`of entry ${ENTRIES[at]!.id}`, batch?.results[at].svid)
  keepToken('JWT minted', (await call(admin, 'SVID/MintJWTSVID', { id: id('/minted'), audience: ['a'] }))?.svid)
  keepToken(
    'JWT minted, several audiences',
    (await call(admin, 'SVID/MintJWTSVID', { id: id('/minted'), audience: ['a', 'b'], ttl: 30 }, 'several audiences'))
      ?.svid,
  )
  await call(admin, 'SVID/MintJWTSVID', { id: id('/minted') }, 'no audience')
  for (const entryId of ['golden-web', 'golden-db']) {
    keepToken(
      `JWT of entry ${entryId}`,
      (await call(agent, 'SVID/NewJWTSVID', { entryId, audience: ['them'] }, entryId))?.svid,
    )
  }
  await call(agent, 'SVID/NewJWTSVID', { entryId: 'golden-nothing', audience: ['them'] }, 'unknown')
  for (const name of ['p256', 'p384'] as const) {
    keepToken(
      `WIT minted for ${name}`,
      (
        await call(
          admin,
          'SVID/MintWITSVID',
          {
            id: id('/minted'),
            publicKey: publicKey[name],
            ttl: 90,
            signingAlgorithm: name === 'p256' ? 'ES256' : 'ES384',
          },
          name,
        )
      )?.svid,
    )
  }
  const wits = await call(agent, 'SVID/BatchNewWITSVID', {
    params: [
      { entryId: 'golden-web', publicKey: publicKey.p256, signingAlgorithm: 'ES256' },
      { entryId: 'golden-db', publicKey: publicKey.p384, signingAlgorithm: 'ES384' },
      { entryId: 'golden-nothing', publicKey: publicKey.p256, signingAlgorithm: 'ES256' },
    ],
  })
  for (const at of [0, 1]) keepToken(`WIT of entry ${ENTRIES[at]!.id}`, wits?.results[at].svid)

  // A server below, and authorities of its own.
  const nestedKey = await generateSigner('ec-p256')
  const nestedCsr = await createCsr({ subject: SVID_SUBJECT, uris: [`spiffe://${TD}/nested`] }, nestedKey)
  const nestedSvid = await call(admin, 'SVID/MintX509SVID', { csr: nestedCsr }, 'of the nested server')
  const nested = await as({ chain: nestedSvid.svid.certChain, signer: nestedKey })
  const downstream = await call(nested, 'SVID/NewDownstreamX509CA', { csr: csr['trust domain'], preferredTtl: 3600 })
  keepX509('CA of a server below', downstream && { certChain: downstream.caCertChain })
  await call(agent, 'SVID/NewDownstreamX509CA', { csr: csr['trust domain'] }, 'by an agent')
  await call(nested, 'Bundle/PublishJWTAuthority', {
    jwtAuthority: { publicKey: publicKey.p256, keyId: 'nested-jwt', expiresAt: FAR_AWAY },
  })
  await call(nested, 'Bundle/PublishWITAuthority', {
    witAuthority: { publicKey: publicKey.p256, keyId: 'nested-wit', expiresAt: FAR_AWAY },
  })

  // The agent renews; its old SVID is worth nothing once the new one was used.
  const newKey = await generateSigner('ec-p256')
  const renewed = await call(agent, 'Agent/RenewAgent', {
    params: { csr: await createCsr({ subject: SVID_SUBJECT }, newKey) },
  })
  keepX509('agent, renewed', renewed?.svid)
  agent = await as({ chain: renewed.svid.certChain, signer: newKey })
  await call(agent, 'Bundle/GetFederatedBundle', { trustDomain: 'far.example' }, 'by an agent')
  const bundle = await call(admin, 'Bundle/GetBundle', {}, 'with what was published')

  // Nobody's tokens are exchanged here.
  for (const kind of ['X509', 'JWT', 'WIT']) await call(nobody, `Exchange/Exchange${kind}`)

  // What operators do at last.
  await call(admin, 'Agent/CountAgents')
  await call(admin, 'Agent/ListAgents', { pageSize: 10 })
  await call(admin, 'Agent/GetAgent', { id: agentId('golden-a') })
  await call(admin, 'Agent/BanAgent', { id: agentId('golden-a') })
  await call(agent, 'Entry/GetAuthorizedEntries', {}, 'by a banned agent')
  await call(admin, 'Agent/DeleteAgent', { id: agentId('golden-a') })
  await call(admin, 'Agent/DeleteAgent', { id: agentId('golden-a') }, 'again')
  await call(admin, 'Entry/BatchDeleteEntry', { ids: ['golden-far', 'golden-nothing'] })
  await call(admin, 'Debug/GetInfo')
  await call(admin, 'Logger/GetLogger')
  await call(admin, 'Logger/SetLogLevel', { newLevel: 3 })
  await call(admin, 'Logger/ResetLogLevel')
  await call(admin, 'Health/Check')
  await call(admin, 'Health/List')
  for (const verb of ['Taint', 'Revoke']) {
    await call(admin, `LocalAuthority/${verb}X509UpstreamAuthority`, { subjectKeyId: 'ab' })
  }
  for (const method of [
    'GetWITAuthorityState',
    'PrepareWITAuthority',
    'ActivateWITAuthority',
    'TaintWITAuthority',
    'RevokeWITAuthority',
  ]) {
    await call(admin, `LocalAuthority/${method}`)
  }
  // Over HTTP the operator's own SVID is of the authority that goes: nothing can follow.
  for (const kind of ['JWT', 'X509']) {
    const state = await call(admin, `LocalAuthority/Get${kind}AuthorityState`)
    const prepared = await call(admin, `LocalAuthority/Prepare${kind}Authority`)
    await call(admin, `LocalAuthority/Activate${kind}Authority`, { authorityId: 'none' }, 'unknown')
    await call(admin, `LocalAuthority/Activate${kind}Authority`, {
      authorityId: prepared?.preparedAuthority.authorityId,
    })
    const old = { authorityId: state?.active.authorityId }
    await call(admin, `LocalAuthority/Taint${kind}Authority`, old)
    await call(admin, `LocalAuthority/Revoke${kind}Authority`, old)
  }
  return { calls, svids, issued, bundle, left: [...left] }
}

/**
 * Judges SVIDs with Node's verifiers, which share nothing with ours.
 * @returns what is wrong
 */
export function judge({ issued, bundle }: Pick<Transcript, 'issued' | 'bundle'>): string[] {
  const faults: string[] = []
  const roots = bundle.x509Authorities.map(({ asn1 }) => new X509Certificate(asn1))
  for (const { name, chain, token } of issued) {
    if (chain) {
      const [leaf] = chain.map((der) => new X509Certificate(der))
      const root = roots.find((root) => leaf!.checkIssued(root) && leaf!.verify(root.publicKey))
      if (!root) faults.push(`${name}: no authority signed it`)
      if (leaf!.ca !== (parseCertificate(chain[0]!).keyUsage === 0x60)) faults.push(`${name}: CA ${leaf!.ca}`)
    }
    if (token) {
      const [header, payload, signature] = token.split('.') as [string, string, string]
      const { kid, typ } = JSON.parse(Buffer.from(header, 'base64url').toString())
      const keys = typ === 'wit+jwt' ? bundle.witAuthorities : bundle.jwtAuthorities
      const key = keys.find(({ keyId }) => keyId === kid)
      const good =
        key !== undefined &&
        verifySignature(
          'sha256',
          Buffer.from(`${header}.${payload}`),
          {
            key: createPublicKey({ key: Buffer.from(key.publicKey), format: 'der', type: 'spki' }),
            dsaEncoding: 'ieee-p1363',
          },
          Buffer.from(signature, 'base64url'),
        )
      if (!good) faults.push(`${name}: the signature is of none of ${keys.length} keys`)
    }
  }
  return faults
}

/** A request from what matters of it: read as JSON, so that nested messages get all their fields. */
function complete<T>(
  row: { readonly path: string; readonly request: { decode(bytes: Uint8Array): T } },
  request: object,
): T {
  const types = jsonTypesOf(row.path)
  if (types === undefined) return row.request.decode(EMPTY)
  const json = JSON.stringify(request, (_, value) => (value instanceof Uint8Array ? base64(value) : value))
  return row.request.decode(jsonToWire(types.request, new TextEncoder().encode(json)))
}

function knownKeys(): ReadonlySet<string> {
  const found = new Set<string>()
  for (const spki of [...Object.values(csr).map((der) => parseCsr(der).spki), ...Object.values(publicKey)]) {
    found.add(digest(spki))
    const jwk = createPublicKey({ key: Buffer.from(spki), format: 'der', type: 'spki' }).export({ format: 'jwk' })
    found.add(digest(jwk.x ?? jwk.n ?? ''))
  }
  return found
}
