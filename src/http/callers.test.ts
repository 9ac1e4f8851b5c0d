import { afterEach, expect, test } from 'vitest'
import { TD, testServer } from '../../test/support/server.ts'
import { AT, type Made, makeCertificate } from '../../test/support/x509.ts'
import { base64 } from '../core/base64.ts'
import { parseCertificate, serialText } from '../core/certificate.ts'
import { createCsr } from '../core/csr.ts'
import { proveJoinToken } from '../core/join-token-proof.ts'
import { jwtSigner } from '../core/jwt-svid.ts'
import type { Log, LogFields } from '../core/log.ts'
import { spiffeId } from '../core/spiffe-id.ts'
import { parseWitKey, signWitSvid, witKeyOf } from '../core/wit-svid.ts'
import { encodeName } from '../core/x509-name.ts'
import { generateSigner, nodeVerifier } from '../plugins/signer.ts'
import { trustOf } from '../server/trust.ts'
import { envelope } from '../transport/connect-protocol.ts'
import type { FrontOptions, TlsClientAuth } from '../transport/front.ts'
import { NONCE_HEADER, verifyResponse, x509Credential } from '../transport/http-signature.ts'
import {
  type Credential,
  contentDigest,
  type HttpMessage,
  requestBase,
  type SigningTerms,
  signatureHeaders,
  signWith,
} from '../transport/message-signature.ts'
import { witCredential } from '../transport/wit-signature.ts'
import { httpApp } from './app.ts'

// Who may do what over HTTP, from the bytes of a request to the policy.

const AUDIENCE = 'https://id.example.org'
const COUNT = '/spire.api.server.entry.v1.Entry/CountEntries'
const TOKEN = '/spire.api.server.agent.v1.Agent/CreateJoinToken'
const AUTHORIZED = '/spire.api.server.entry.v1.Entry/GetAuthorizedEntries'

const lines: LogFields[] = []
const remember = (bound: LogFields): Log => {
  const write = (message: string, fields?: LogFields) => void lines.push({ message, ...bound, ...fields })
  const child = (fields: LogFields) => remember({ ...bound, ...fields })
  return { debug: write, info: write, warn: write, error: write, child, debugEnabled: false }
}
afterEach(() => void lines.splice(0))

const server = await testServer({
  adminIds: [spiffeId(TD, '/admin')],
  auditEnabled: true,
  wait: () => Promise.reject(new Error('nobody waits')),
  exchange: [
    {
      name: 'any',
      type: 'oidc',
      audience: 'x',
      issuer: 'https://idp.example.org',
      claims: ['sub'],
      allow: { sub: ['me'] },
    },
  ],
  log: remember({}),
})
const { deps, store, clock } = server
const verify = nodeVerifier()
const trust = trustOf({ store, bundle: deps.bundle, adminIds: deps.adminIds, verify, clock })

const times = { notBefore: AT - 60, notAfter: AT + 3600 }
const root = await makeCertificate({ name: 'root', ca: true, uris: ['spiffe://example.org'], ...times })
await store.bundles.append({ trustDomain: TD, x509Authorities: [{ der: root.der, tainted: false }] })
const svid = (path: string, issuer: Made | undefined = root, changes: { readonly notAfter?: number } = {}) =>
  makeCertificate({ name: 'x', uris: [`spiffe://example.org${path}`], ...times, ...changes }, issuer)
const [admin, workload, own] = [await svid('/admin'), await svid('/web'), await svid('/spire/server')]

/** The same SVID belongs to an attested agent. */
async function agent(name: string, svidOf?: (path: string) => Promise<Made>): Promise<Made> {
  const path = `/spire/agent/x509pop/${name}`
  const made = await (svidOf ?? svid)(path)
  const serialNumber = serialText(parseCertificate(made.der))
  await store.nodes.recordAttestation({
    id: spiffeId(TD, path),
    attestationType: 'x509pop',
    serialNumber,
    expiresAt: AT + 3600,
    canReattest: true,
    selectors: [],
  })
  return made
}

const SECRET = 'f'.repeat(40)
const fronts: readonly FrontOptions[] = [
  { name: 'lb', carrier: 'rfc9440', secret: SECRET, addressHeader: 'x-forwarded-for' },
  { name: 'worker', carrier: 'cloudflare' },
]
const uses = { ...store.uses }
const app = httpApp({
  server: {
    deps,
    adminService: server.service,
    bundle: deps.bundle,
    trust,
    identity: () => ({ chain: [own.der], key: own.key, notAfter: AT + 3600 }),
  } as never,
  audiences: [AUDIENCE],
  issuer: undefined,
  sealSecret: new Uint8Array(32),
  uses,
  fronts,
  verify,
  clock,
  log: remember({}),
})

interface Sent {
  readonly path?: string
  readonly query?: string
  readonly method?: string
  readonly headers?: Record<string, string>
  readonly body?: string
  readonly tls?: TlsClientAuth
  readonly host?: string
}

async function send({ path = COUNT, query = '', headers = {}, body = '{}', tls, host }: Sent = {}): Promise<Response> {
  const all = { 'content-type': 'application/json', ...headers }
  // As a proxy that passes the host on leaves it, or as it comes by the address of the machine.
  const origin = `http://${host ?? (headers.signature === undefined ? 'id.example.org' : 'inside')}`
  return app(new Request(`${origin}${path}${query}`, { method: 'POST', headers: all, body }), '10.0.0.9', tls)
}

async function outcome(sent: Promise<Response>): Promise<string> {
  const response = await sent
  if (response.ok) return 'OK'
  const { code, message } = (await response.json()) as { code: string; message: string }
  return `${response.status} ${code}: ${message}`
}

async function signature(credential: Credential, sent: Sent = {}, terms: Partial<SigningTerms> = {}) {
  const message: HttpMessage = {
    method: sent.method ?? 'POST',
    target: `${sent.path ?? COUNT}${sent.query ?? ''}`,
    headers: new Headers({ 'content-type': 'application/json', ...sent.headers }),
    body: new TextEncoder().encode(sent.body ?? '{}'),
  }
  return signWith(message, credential, { audience: AUDIENCE, now: AT, nonce: crypto.randomUUID(), ...terms })
}

const by = ({ der, key }: Made, ...above: Made[]): Credential =>
  x509Credential({ chain: [der, ...above.map((made) => made.der)], signer: key })
const call = async (credential: Credential, sent: Sent = {}, terms: Partial<SigningTerms> = {}) =>
  outcome(send({ ...sent, headers: { ...sent.headers, ...(await signature(credential, sent, terms)) } }))

const witAuthority = await generateSigner('ec-p256')
const witAuthorities = [{ keyId: 'wit-1', publicKey: witAuthority.publicKey, expiresAt: AT + 3600, tainted: false }]
await store.bundles.append({ trustDomain: TD, witAuthorities })

async function wit(path: string): Promise<Credential> {
  const signer = await generateSigner('ec-p256')
  const jwk = witKeyOf(parseWitKey(signer.publicKey), 'ES256')
  const claims = { jwk, exp: AT + 300, iat: AT, sub: spiffeId(TD, path) }
  return witCredential(await signWitSvid(claims, jwtSigner(witAuthority, 'wit-1', 'wit+jwt')), signer)
}

const agentPath = '/spire/agent/x509pop/wit'
const denied = (path: string) => `403 permission_denied: authorization denied for method ${path}`
const rows: readonly (readonly [who: string, make: () => Promise<Credential> | Credential, ok: readonly string[]])[] = [
  ['an administrator by X509-SVID', () => by(admin), [COUNT, TOKEN]],
  ['an administrator by WIT-SVID', () => wit('/admin'), [COUNT, TOKEN]],
  ['an agent', async () => by(await agent('good')), [AUTHORIZED]],
  ['the WIT-SVID of an agent', () => agent('wit').then(() => wit(agentPath)), []],
  ['a workload by X509-SVID', () => by(workload), []],
  ['a workload by WIT-SVID', () => wit('/web'), []],
]

test.each(rows)('%s may do this and no more', async (_, make, ok) => {
  const credential = await make()
  for (const path of [COUNT, TOKEN, AUTHORIZED]) {
    const body = path === TOKEN ? '{"ttl":60}' : '{}'
    expect(await call(credential, { path, body })).toBe(ok.includes(path) ? 'OK' : denied(path))
  }
})

test('who shows nothing gets what is for everybody', async () => {
  expect(await outcome(send())).toBe(denied(COUNT))
  expect(await outcome(send({ path: '/spire.api.server.bundle.v1.Bundle/GetBundle' }))).toBe('OK')
})

test.each<[string, (name: string) => Promise<Made>]>([
  [
    'was banned',
    async (name) => {
      const made = await agent(name)
      await store.nodes.ban(spiffeId(TD, `/spire/agent/x509pop/${name}`))
      return made
    },
  ],
  [
    'was evicted',
    async (name) => {
      const made = await agent(name)
      await store.nodes.delete(spiffeId(TD, `/spire/agent/x509pop/${name}`))
      return made
    },
  ],
  [
    'shows an SVID that it renewed and used since',
    async (name) => {
      const old = await agent(name)
      const id = spiffeId(TD, `/spire/agent/x509pop/${name}`)
      const next = await svid(`/spire/agent/x509pop/${name}`)
      await store.nodes.recordRenewal(id, serialText(parseCertificate(next.der)), AT + 3600)
      expect(await call(by(next), { path: AUTHORIZED })).toBe('OK')
      return old
    },
  ],
  ['shows an SVID that it never got', (name) => agent(name).then(() => svid(`/spire/agent/x509pop/${name}`))],
])('an agent that %s is refused, and told so under signature', async (what, make) => {
  const made = await make(what.replaceAll(' ', '-'))
  const headers = await signature(by(made), { path: AUTHORIZED }, { nonce: 'n'.repeat(22) })
  const response = await send({ path: AUTHORIZED, headers })
  expect(response.status).toBe(403)
  const body = new Uint8Array(await response.clone().arrayBuffer())
  await verifyResponse(
    { method: 'POST', target: AUTHORIZED, headers: new Headers(headers), nonce: 'n'.repeat(22) },
    { status: 403, headers: response.headers, body },
    { verify, verifyChain: async (chain) => void (await trust.verifyPeer(chain)) },
  )
  expect(await response.json()).toMatchObject({ details: [{ type: 'spire.api.types.PermissionDeniedDetails' }] })
})

const foreignRoot = await makeCertificate({ name: 'root', ca: true, uris: ['spiffe://example.org'], ...times })
const stolen: Made = { ...admin, key: workload.key }

test.each<[string, () => Promise<string>, RegExp]>([
  ['of a foreign CA', async () => call(by(await svid('/admin', foreignRoot))), /401 .*unknown authority/],
  [
    'of a foreign CA that comes along',
    async () => call(by(await svid('/admin', foreignRoot), foreignRoot)),
    /401 .*unknown authority/,
  ],
  ['that ended', async () => call(by(await svid('/admin', root, { notAfter: AT - 1 }))), /401 .*has expired/],
  ['of a CA', () => call(by(root)), /401 .*CA flag/],
  ['with another key', () => call(by(stolen)), /401 .*does not verify/],
  ['for another server', () => call(by(admin), {}, { audience: 'https://other.example.org' }), /401 .*audience/],
  ['of an hour ago', () => call(by(admin), {}, { now: AT - 3600 }), /401 .*server's time/],
  ['of tomorrow', () => call(by(admin), {}, { now: AT + 86_400 }), /401 .*server's time/],
  [
    'for another path',
    async () => outcome(send({ path: TOKEN, headers: await signature(by(admin)) })),
    /401 .*does not verify/,
  ],
  [
    'for another query',
    async () => outcome(send({ query: '?x=1', headers: await signature(by(admin)) })),
    /401 .*does not verify/,
  ],
  [
    'for another HTTP method',
    async () => outcome(send({ headers: await signature(by(admin), { method: 'GET' }) })),
    /401 .*does not verify/,
  ],
  ['for another body', async () => outcome(send({ body: '{ }', headers: await signature(by(admin)) })), /401 .*digest/],
  [
    'of a WIT-SVID for another body',
    async () => outcome(send({ body: '{ }', headers: await signature(await wit('/admin')) })),
    /400 .*digest/,
  ],
  [
    'with its certificate and no signature',
    async () => outcome(send({ headers: { 'client-cert': (await signature(by(admin)))['client-cert']! } })),
    /401 .*not signed/,
  ],
  [
    'with the token of a WIT-SVID and no signature',
    async () => outcome(send({ headers: (await wit('/admin')).headers as Record<string, string> })),
    /400 .*not signed/,
  ],
  [
    'with a WIT-SVID and another key',
    async () => call(witCredential((await wit('/admin')).headers['workload-identity-token']!, workload.key)),
    /400 .*does not verify/,
  ],
])('a request %s is refused', async (_, attempt, reason) => {
  expect(await attempt()).toMatch(reason)
})

test.each<[string, () => Promise<Credential> | Credential, string]>([
  ['an X509-SVID', () => by(admin), '401 unauthenticated: the request was sent before'],
  ['a WIT-SVID', () => wit('/admin'), '400 invalid_argument: the request was sent before'],
])('a copy of what %s signed is refused where it would do something again', async (_, make, refusal) => {
  const credential = await make()
  const write = { path: TOKEN, body: '{"ttl":60}' }
  const headers = await signature(credential, write)
  expect(await outcome(send({ ...write, headers }))).toBe('OK')
  expect(await outcome(send({ ...write, headers }))).toBe(refusal)
  const read = await signature(credential)
  expect(await outcome(send({ headers: read }))).toBe('OK')
  expect(await outcome(send({ headers: read }))).toBe('OK')
})

test('a request of somebody who may not call leaves nothing in the database', async () => {
  const write = { path: TOKEN, body: '{"ttl":60}' }
  const taken: string[] = []
  const { take } = store.uses
  uses.take = (key, ...rest) => {
    taken.push(key)
    return take(key, ...rest)
  }
  expect(await call(by(workload), write)).toMatch(/^403 /)
  expect(taken).toHaveLength(0)
  expect(await call(by(admin), write)).toBe('OK')
  expect(taken).toHaveLength(1)
  uses.take = take
})

test('what is written down of the requests of one caller is within their limit, and nothing for what anybody may call', async () => {
  const taken: string[] = []
  const { take } = store.uses
  uses.take = (key, ...rest) => {
    taken.push(key)
    return take(key, ...rest)
  }
  const made = await agent('busy')
  const renewal = { path: '/spire.api.server.agent.v1.Agent/RenewAgent', body: '{}' }
  const outcomes = await Promise.all(Array.from({ length: 520 }, () => call(by(made), renewal)))
  expect(outcomes.filter((one) => one.startsWith('403 '))).toHaveLength(500)
  expect(outcomes.filter((one) => one.startsWith('499 '))).toHaveLength(20)
  expect(taken).toHaveLength(500)
  const body = '\0\0\0\0\x02{}'
  const attest = {
    path: '/spire.api.server.agent.v1.Agent/AttestAgent',
    body,
    headers: { 'content-type': 'application/connect+json' },
  }
  const headers = { ...attest.headers, ...(await signature(by(workload), attest)) }
  expect(await (await send({ ...attest, headers })).text()).toContain('missing params')
  expect(taken).toHaveLength(500)
  uses.take = take
})

test('a copy of a renewal does not bury the SVID that the original gave', async () => {
  const name = '/spire/agent/join_token/renewing'
  const made = await svid(name)
  const id = spiffeId(TD, name)
  const serialNumber = serialText(parseCertificate(made.der))
  const node = { id, attestationType: 'join_token', serialNumber, expiresAt: AT + 3600, selectors: [] }
  await store.nodes.recordAttestation({ ...node, canReattest: false })
  const csr = await createCsr({ subject: encodeName({}) }, await generateSigner('ec-p256'))
  const renewal = {
    path: '/spire.api.server.agent.v1.Agent/RenewAgent',
    body: JSON.stringify({ params: { csr: base64(csr) } }),
  }
  const headers = await signature(by(made), renewal)
  expect(await outcome(send({ ...renewal, headers }))).toBe('OK')
  const pending = (await store.nodes.get(id))?.newSerialNumber
  expect(pending).not.toBe('')
  expect(await outcome(send({ ...renewal, headers }))).toBe('401 unauthenticated: the request was sent before')
  expect((await store.nodes.get(id))?.newSerialNumber).toBe(pending)
})

test('a copy is refused for as long as the original could come', async () => {
  const write = { path: TOKEN, body: '{"ttl":60}' }
  const before = clock.ms
  const credential = by(admin)
  // As long as a signature may live, by a clock that is ahead as far as one may be.
  const message: HttpMessage = {
    method: 'POST',
    target: TOKEN,
    headers: new Headers({ 'content-type': 'application/json' }),
    body: new TextEncoder().encode(write.body),
  }
  const longLived: Record<string, string> = {
    'content-digest': await contentDigest(message.body),
    ...credential.headers,
  }
  const components = ['@method', '@request-target', 'content-type', 'content-digest', 'client-cert'].map(
    (name) => `"${name}"`,
  )
  const params = `(${components.join(' ')});created=${AT + 30};expires=${AT + 330};nonce="${'n'.repeat(20)}";tag="${credential.tag}";wimse-aud="${AUDIENCE}"`
  const base = requestBase(
    components,
    params,
    message,
    (name) => longLived[name] ?? message.headers.get(name) ?? undefined,
  )
  const headers = { ...longLived, ...(await signatureHeaders(params, base, credential.signer)) }
  try {
    expect(await outcome(send({ ...write, headers }))).toBe('OK')
    clock.ms = (AT + 360) * 1000
    expect(await outcome(send({ ...write, headers }))).toBe('401 unauthenticated: the request was sent before')
  } finally {
    clock.ms = before
  }
})

const clientCert = (made: Made) => ({ 'client-cert': `:${base64(made.der)}:` })
const byFront = (made: Made) => ({ 'turret-front-secret': SECRET, ...clientCert(made) })

test('the word of a front makes the same caller, named in the log with the front and the address it saw', async () => {
  const headers = { ...byFront(admin), 'x-forwarded-for': '203.0.113.7' }
  expect(await outcome(send({ headers }))).toBe('OK')
  expect(lines.find(({ message }) => message === 'API accessed')).toMatchObject({
    caller_id: 'spiffe://example.org/admin',
    caller_addr: '203.0.113.7',
    caller_front: 'lb',
    authorized_as: 'admin',
    authorized_via: 'config',
  })
  expect(JSON.stringify(lines)).not.toContain(SECRET)
  expect(await outcome(send({ path: AUTHORIZED, headers: byFront(await agent('fronted')) }))).toBe('OK')
})

test.each<[string, () => Promise<Sent> | Sent, RegExp]>([
  [
    'sent to another host',
    () => ({ headers: byFront(admin), host: 'evil.example.org' }),
    /401 .*none of the audiences/,
  ],
  ['not from a front', () => ({ headers: clientCert(admin) }), /401 .*no front vouches/],
  ['with another secret', () => ({ headers: { ...byFront(admin), 'turret-front-secret': 'x' } }), /401 .*no front/],
  ['of a foreign CA', async () => ({ headers: byFront(await svid('/admin', foreignRoot)) }), /401 .*unknown authority/],
  ['of a workload', () => ({ headers: byFront(workload) }), /403/],
  [
    'of a banned agent',
    async () => {
      const made = await agent('fronted-banned')
      await store.nodes.ban(spiffeId(TD, '/spire/agent/x509pop/fronted-banned'))
      return { path: AUTHORIZED, headers: byFront(made) }
    },
    /403/,
  ],
  [
    'with a token beside it',
    () => ({ headers: { ...byFront(admin), authorization: 'Bearer a.b.c' } }),
    /401 .*not both/,
  ],
  [
    'that Cloudflare says is revoked',
    () => ({
      tls: {
        certPresented: '1',
        certVerified: 'SUCCESS',
        certRevoked: '1',
        certRFC9440: clientCert(admin)['client-cert'],
      },
    }),
    /401 .*revoked/,
  ],
])('a certificate %s is refused', async (_, make, reason) => {
  expect(await outcome(send(await make()))).toMatch(reason)
})

test('what a front vouches for is no signature: a nonce beside it binds nothing and is not kept', async () => {
  const write = { path: TOKEN, body: '{"ttl":60}' }
  const nonce = { [NONCE_HEADER]: 'n'.repeat(22) }
  for (const headers of [byFront(admin), { ...byFront(admin), ...nonce }, { ...byFront(admin), ...nonce }])
    expect(await outcome(send({ ...write, headers }))).toBe('OK')
})

test('a signature counts, whatever a front adds to it', async () => {
  const headers = { ...(await signature(await wit('/admin'))), ...byFront(workload) }
  expect(await outcome(send({ headers }))).toBe('OK')
})

test.each([
  [{ 'turret-front-secret': SECRET, 'x-forwarded-for': '203.0.113.9' }, '203.0.113.9'],
  [{ 'turret-front-secret': 'x', 'x-forwarded-for': '203.0.113.9' }, '10.0.0.9'],
])('the doors of the exchange know from where a client is: %j', async (headers, address) => {
  const form = new URLSearchParams({
    grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
    subject_token_type: 'urn:ietf:params:oauth:token-type:jwt',
    subject_token: 'a.b.c',
    audience: 'db',
  })
  const request = new Request('http://inside/v1/token', { method: 'POST', headers: headers as never, body: form })
  expect((await app(request, '10.0.0.9')).status).toBe(400)
  expect(lines.find(({ message }) => message === 'API accessed')?.caller_addr).toBe(address)
})

test('whoever ends TLS sees no join token: the token itself is refused', async () => {
  await store.joinTokens.create({ value: 'a-token', expiresAt: AT + 60 })
  const csr = await createCsr({ subject: encodeName({}) }, await generateSigner('ec-p256'))
  const attest = async (payload: Uint8Array) => {
    const data = { type: 'join_token', payload: base64(payload) }
    const body = envelope(new TextEncoder().encode(JSON.stringify({ params: { data, params: { csr: base64(csr) } } })))
    const request = new Request('https://id.example.org/spire.api.server.agent.v1.Agent/AttestAgent', {
      method: 'POST',
      headers: { 'content-type': 'application/connect+json' },
      body: body as BodyInit,
    })
    return (await app(request, '10.0.0.8')).text()
  }
  expect(await attest(new TextEncoder().encode('a-token'))).toContain('over HTTP proof of a join token is taken')
  clock.ms += 1000
  const proof = await proveJoinToken('a-token', { trustDomain: TD, csr }, AT)
  expect(await attest(proof)).toContain('/spire/agent/join_token/a-token')
})
