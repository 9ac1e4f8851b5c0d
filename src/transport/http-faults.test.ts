import fc from 'fast-check'
import { beforeEach, expect, test } from 'vitest'
import {
  CountAgentsRequest,
  CountAgentsResponse,
  CreateJoinTokenRequest,
} from '../../proto/spire/api/server/agent/v1.ts'
import { GetBundleRequest } from '../../proto/spire/api/server/bundle/v1.ts'
import { Bundle, JoinToken } from '../../proto/spire/api/types.ts'
import { memoryUses } from '../../test/support/memory-uses.ts'
import { identified, rejection, TD, testServer } from '../../test/support/server.ts'
import { AT, type Made, makeCertificate } from '../../test/support/x509.ts'
import { parseCertificate } from '../core/certificate.ts'
import { silentLog } from '../core/log.ts'
import { verifyX509Svid } from '../core/path-validation.ts'
import { spiffeId } from '../core/spiffe-id.ts'
import { nodeVerifier } from '../plugins/signer.ts'
import { isOnce } from '../server/once.ts'
import { connectHandler } from './fetch.ts'
import { connectHttp } from './http-client.ts'
import { type HttpIdentity, nonceOf, verifyRequest, x509Credential } from './http-signature.ts'
import { type HttpMessage, signWith } from './message-signature.ts'
import { StateSeal } from './sealed-state.ts'

const URL_ = 'http://server.test'
const CREATE = '/spire.api.server.agent.v1.Agent/CreateJoinToken'
const COUNT = '/spire.api.server.agent.v1.Agent/CountAgents'
const create = { path: CREATE, request: CreateJoinTokenRequest, response: JoinToken }
const count = { path: COUNT, request: CountAgentsRequest, response: CountAgentsResponse }

const verify = nodeVerifier()
const root = await makeCertificate({ name: 'root', ca: true, uris: ['spiffe://example.org'] })
const identityOf = ({ der, key }: Made): HttpIdentity => ({ chain: [der], signer: key })
const admin = identityOf(await makeCertificate({ name: 'a', uris: ['spiffe://example.org/admin'] }, root))
const serverIdentity = identityOf(
  await makeCertificate({ name: 's', uris: ['spiffe://example.org/spire/server'] }, root),
)
const verifyChain = async (chain: readonly Uint8Array[]) => {
  await verifyX509Svid({
    chain,
    rootsOf: (name) => (name === TD ? [parseCertificate(root.der)] : undefined),
    at: AT,
    verify,
  })
}

const server = await testServer({ adminIds: [spiffeId(TD, '/admin')] })
const handle = connectHandler({
  service: server.service,
  identity: () => serverIdentity,
  seal: new StateSeal(new Uint8Array(32), 'example.org', server.clock, memoryUses()),
  uses: memoryUses(),
  isOnce,
  clock: server.clock,
  log: silentLog,
  async authenticate(message, address) {
    if (!message.headers.has('signature-input')) return { peer: { via: 'anonymous', address }, signed: false }
    await verifyRequest(message, { audiences: [URL_], now: AT, verify, verifyChain })
    return { peer: identified('/admin'), signed: true }
  },
})

/** What went over the wire, as it went. */
let sent: Request[] = []
let between: (response: Response) => Response | Promise<Response> = (response) => response
const send = async (request: Request) => {
  sent.push(request.clone())
  return between((await handle(request, '192.0.2.2'))!)
}
beforeEach(() => {
  sent = []
  between = (response) => response
})

function client(options: { readonly skewSeconds?: number; readonly identity?: HttpIdentity } = {}) {
  return connectHttp({
    serverUrl: URL_,
    credential: () => x509Credential(options.identity ?? admin),
    verifyServer: verifyChain,
    verify,
    clock: { nowMs: () => (AT + (options.skewSeconds ?? 0)) * 1000 },
    fetch: send as typeof fetch,
  })
}

const counted = async (channel: ReturnType<typeof client>) => (await channel.unary(count, { filter: undefined })).count
const newToken = { ttl: 60, token: '', agentId: undefined }

test('a signed call is answered', async () => {
  expect(await counted(client())).toBe(0)
  expect(sent).toHaveLength(1)
})

test.each([-3600, -120, 45, 86_400])(
  'a clock that is %i s off is corrected by one more request, then no more',
  async (skewSeconds) => {
    const channel = client({ skewSeconds })
    expect(await counted(channel)).toBe(0)
    expect(sent).toHaveLength(2)
    expect(await counted(channel)).toBe(0)
    expect(sent).toHaveLength(3)
  },
)

test('a clock is not corrected by an answer that the server did not sign', async () => {
  between = async (response) => {
    if (response.status !== 401) return response
    return new Response(await response.arrayBuffer(), { status: 401, headers: { 'content-type': 'application/json' } })
  }
  expect(await rejection(counted(client({ skewSeconds: 3600 })))).toMatch(/^UNAVAILABLE: unsigned answer: /)
  expect(sent).toHaveLength(1)
})

test('a clock is not corrected by another server of the trust domain', async () => {
  const impostor = identityOf(await makeCertificate({ name: 'x', uris: ['spiffe://elsewhere.org/spire/server'] }))
  const { signResponse } = await import('./http-signature.ts')
  between = async (response) => {
    const body = new Uint8Array(await response.arrayBuffer())
    const nonce = /;nonce="([^"]*)"/.exec(sent[0]!.headers.get('signature-input')!)![1]!
    const headers = await signResponse(
      { method: 'POST', target: COUNT, headers: sent[0]!.headers, nonce },
      { status: response.status, contentType: 'application/json', body },
      impostor,
      AT,
    )
    return new Response(body, { status: response.status, headers: { 'content-type': 'application/json', ...headers } })
  }
  expect(await rejection(counted(client({ skewSeconds: 3600 })))).toMatch(/not to be trusted/)
  expect(sent).toHaveLength(1)
})

test('an answer to another with the same nonce is no answer to us', async () => {
  const other = identityOf(await makeCertificate({ name: 'o', uris: ['spiffe://example.org/other'] }, root))
  between = async () => {
    const request = sent[0]!
    const body = new Uint8Array(await request.clone().arrayBuffer())
    const nonce = nonceOf(request.headers)!
    const message = { method: 'POST', target: COUNT, headers: new Headers(request.headers), body }
    const headers = await signWith(message, x509Credential(other), { audience: URL_, now: AT, nonce })
    for (const [name, value] of Object.entries(headers)) message.headers.set(name, value)
    return (await handle(new Request(request.url, { method: 'POST', headers: message.headers, body }), ''))!
  }
  expect(await rejection(counted(client()))).toMatch(/^UNAVAILABLE: .*not to be trusted.*does not verify/)
})

test('a question without signature that was changed on the way is refused', async () => {
  const path = '/spire.api.server.bundle.v1.Bundle/GetBundle'
  const anonymous = connectHttp({
    serverUrl: URL_,
    credential: () => undefined,
    verifyServer: verifyChain,
    verify,
    clock: server.clock,
    fetch: (async (request: Request) => {
      sent.push(request.clone())
      return (await handle(new Request(request.url, { method: 'POST', headers: request.headers, body: changed }), ''))!
    }) as typeof fetch,
  })
  const get = { path, request: GetBundleRequest, response: Bundle }
  let changed: Uint8Array<ArrayBuffer> = new Uint8Array(0)
  expect((await anonymous.unary(get, { outputMask: undefined })).trustDomain).toBe('example.org')
  changed = Uint8Array.of(10, 0)
  expect(await rejection(anonymous.unary(get, { outputMask: undefined }))).toMatch(/content digest/)
})

test('an error that the server did not sign says nothing of the caller', async () => {
  between = () => Response.json({ code: 'permission_denied', message: 'agent is banned' }, { status: 403 })
  expect(await rejection(counted(client()))).toBe('UNAVAILABLE: unsigned answer: agent is banned')
})

test('a signed error keeps its code', async () => {
  expect(await rejection(client().unary(create, { ...newToken, ttl: -1 }))).toMatch(/^INVALID_ARGUMENT: /)
})

test('a copy of a request that changes something is refused, one that only reads is not', async () => {
  await client().unary(create, newToken)
  await counted(client())
  const [write, read] = sent as [Request, Request]
  const copied = await handle(write.clone(), '')
  expect(copied!.status).toBe(401)
  expect(await copied!.json()).toMatchObject({ code: 'unauthenticated', message: 'the request was sent before' })
  expect((await handle(read, ''))!.status).toBe(200)
})

test('a request for one method does not pass for another', async () => {
  await counted(client())
  const { headers } = sent[0]!
  const body = await sent[0]!.arrayBuffer()
  const retargeted = new Request(`${URL_}${CREATE}`, { method: 'POST', headers, body })
  expect((await handle(retargeted, ''))!.status).toBe(401)
  const withQuery = new Request(`${URL_}${COUNT}?x`, { method: 'POST', headers, body })
  expect((await handle(withQuery, ''))!.status).toBe(401)
})

test('protobuf that was signed does not pass for JSON', async () => {
  await counted(client())
  const headers = new Headers(sent[0]!.headers)
  headers.set('content-type', 'application/json')
  const response = await handle(new Request(`${URL_}${COUNT}`, { method: 'POST', headers, body: '{}' }), '')
  expect(response!.status).toBe(401)
})

/** Sends JSON as the administrator. */
async function postJson(path: string, body: string): Promise<Response> {
  const message: HttpMessage = {
    method: 'POST',
    target: path,
    headers: new Headers({ 'content-type': 'application/json' }),
    body: new TextEncoder().encode(body),
  }
  const nonce = crypto.randomUUID()
  const headers = await signWith(message, x509Credential(admin), { audience: URL_, now: AT, nonce })
  const request = new Request(`${URL_}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body,
  })
  return (await handle(request, ''))!
}

test('JSON goes in and out', async () => {
  const entry = {
    spiffe_id: { trust_domain: 'example.org', path: '/web' },
    parentId: { trustDomain: 'example.org', path: '/agent' },
    selectors: [{ type: 'unix', value: 'uid:0' }],
    expiresAt: '1900000000',
  }
  const created = await postJson(
    '/spire.api.server.entry.v1.Entry/BatchCreateEntry',
    JSON.stringify({ entries: [entry] }),
  )
  expect(created.headers.get('content-type')).toBe('application/json')
  const { results } = (await created.json()) as { results: { status: object; entry: { id: string } }[] }
  expect(results[0]!.status).toEqual({ message: 'OK' })
  const listed = await postJson(
    '/spire.api.server.entry.v1.Entry/ListEntries',
    '{"filter":{"byHint":""},"pageSize":10}',
  )
  expect(await listed.json()).toMatchObject({
    entries: [{ id: results[0]!.entry.id, spiffeId: { path: '/web' }, expiresAt: '1900000000' }],
  })
})

test('JSON that is not the message is an invalid argument and does nothing', async () => {
  const response = await postJson(CREATE, '{"ttl":60,"tok":"secret-token"}')
  expect(response.status).toBe(400)
  const text = await response.text()
  expect(JSON.parse(text)).toEqual({
    code: 'invalid_argument',
    message: 'the request is not valid: unknown field "tok" in spire.api.server.agent.v1.CreateJoinTokenRequest',
  })
  expect(text).not.toContain('secret')
})

test('no header that an outsider writes makes the server fail', async () => {
  const piece = fc.constantFrom(
    'wimse=(',
    '"@method"',
    '"client-cert"',
    ' ',
    ')',
    ';created=1',
    ';expires=2',
    ';nonce="x"',
    ';tag="spiffe-x509-svid"',
    ';wimse-aud="',
    '"',
    ';req',
    ':',
    'AAAA',
    '=',
    '\\',
    ',',
    ';created=99999999999999999999',
  )
  const header = fc.oneof(
    fc.string(),
    fc.array(piece, { maxLength: 20 }).map((parts) => parts.join('')),
  )
  await fc.assert(
    fc.asyncProperty(header, header, header, async (input, signature, certificate) => {
      let headers: Headers
      try {
        headers = new Headers({
          'content-type': 'application/proto',
          'signature-input': input,
          signature,
          'client-cert': certificate,
        })
      } catch {
        return
      }
      const response = await handle(new Request(`${URL_}${COUNT}`, { method: 'POST', headers }), '')
      expect(response!.status).toBe(401)
    }),
    { numRuns: 300 },
  )
})
