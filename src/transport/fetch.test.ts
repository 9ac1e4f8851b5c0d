import fc from 'fast-check'
import { expect, test } from 'vitest'
import { memoryUses } from '../../test/support/memory-uses.ts'
import { identified, TD } from '../../test/support/server.ts'
import { StatusError } from '../core/error.ts'
import { silentLog } from '../core/log.ts'
import { spiffeId } from '../core/spiffe-id.ts'
import type { Peer } from '../rpc/caller.ts'
import type { BoundMethod, BoundService, IncomingCall } from '../rpc/service.ts'
import { envelope } from './connect-protocol.ts'
import { connectHandler, type FetchOptions, STATE_HEADER } from './fetch.ts'
import { StateSeal } from './sealed-state.ts'

const text = (value: string) => new TextEncoder().encode(value)
const untext = (bytes: Uint8Array) => new TextDecoder().decode(bytes)
const clock = { now: 1_000_000, nowMs: () => clock.now }

/** Adds what it is told; asks for one more number than it got and remembers the sum at a checkpoint. */
const methods: BoundMethod[] = [
  {
    path: '/t.Test/Echo',
    kind: 'unary',
    async unary(request) {
      if (untext(request) === 'fail') {
        throw new StatusError('NOT_FOUND', 'entry not found', {
          details: [{ typeUrl: 'type.googleapis.com/a.B', value: text('x') }],
        })
      }
      return request
    },
    // biome-ignore lint/correctness/useYield: never called.
    async *stream() {
      throw new Error('unary')
    },
  },
  {
    path: '/t.Test/Sum',
    kind: 'bidi',
    unary: () => Promise.reject(new Error('bidi')),
    async *stream(requests, call) {
      const incoming = requests[Symbol.asyncIterator]()
      const first = Number(untext((await incoming.next()).value))
      let sum = call.resumed ? Number(untext(call.resumed)) + Number(untext((await incoming.next()).value)) : first
      while (sum < 10) {
        call.checkpoint?.(text(String(sum)))
        yield text(`so far ${sum}`)
        sum += Number(untext((await incoming.next()).value))
      }
      yield text(`total ${sum}`)
    },
  },
  {
    path: '/t.Test/Hang',
    kind: 'unary',
    unary: () => new Promise(() => {}),
    // biome-ignore lint/correctness/useYield: never called.
    async *stream() {
      throw new Error('unary')
    },
  },
  {
    path: '/t.Test/Many',
    kind: 'bidi',
    unary: () => Promise.reject(new Error('bidi')),
    async *stream(requests) {
      for await (const request of requests) yield request
    },
  },
  {
    path: '/t.Test/Flood',
    kind: 'bidi',
    unary: () => Promise.reject(new Error('bidi')),
    async *stream() {
      for (let count = 0; count < 70; count++) yield new Uint8Array(1024 * 1024)
    },
  },
  {
    path: '/t.Test/Count',
    kind: 'server-stream',
    unary: () => Promise.reject(new Error('stream')),
    async *stream() {
      yield text('one')
      throw new StatusError('PERMISSION_DENIED', 'no more')
    },
  },
]
const service: BoundService = {
  methods: new Map(methods.map((method) => [method.path, method])),
  services: new Set(['t.Test']),
}

const options: FetchOptions = {
  service,
  async authenticate({ headers }, address) {
    if (headers.has('signature')) throw new StatusError('UNAUTHENTICATED', 'nobody')
    return { peer: { via: 'anonymous', address }, signed: false }
  },
  identity: () => undefined,
  seal: new StateSeal(new Uint8Array(32).fill(7), 'example.org', clock, memoryUses()),
  uses: memoryUses(),
  isOnce: () => true,
  clock,
  log: silentLog,
  maxBodyBytes: 6000,
  bodyTimeoutMs: 50,
}
const handle = connectHandler(options)

function post(
  path: string,
  contentType: string,
  body: Uint8Array,
  headers: Record<string, string> = {},
): Promise<Response | undefined> {
  const request = new Request(`http://server${path}`, {
    method: 'POST',
    headers: { 'content-type': contentType, ...headers },
    body: body as BodyInit,
  })
  return handle(request, '127.0.0.1')
}

const PROTO = 'application/proto'
const STREAM = 'application/connect+proto'

test('a unary call answers with the message alone', async () => {
  const response = await post('/t.Test/Echo', PROTO, text('hello'))
  expect(response?.status).toBe(200)
  expect(response?.headers.get('content-type')).toBe(PROTO)
  expect(await response?.text()).toBe('hello')
})

test('an error is a Connect error with its details', async () => {
  const response = await post('/t.Test/Echo', PROTO, text('fail'))
  expect(response?.status).toBe(404)
  expect(await response?.json()).toEqual({
    code: 'not_found',
    message: 'entry not found',
    details: [{ type: 'a.B', value: 'eA' }],
  })
})

test.each([
  ['another content type', 'application/json', text('x'), 415],
  ['a body over the limit', PROTO, new Uint8Array(6001), 429],
])('%s is refused', async (_, type, body, status) => {
  expect((await post('/t.Test/Echo', type, body))?.status).toBe(status)
})

test('a signed request that nobody vouches for is refused', async () => {
  const response = await post('/t.Test/Echo', PROTO, text('x'), { signature: 'wimse=:AAAA:' })
  expect(response?.status).toBe(401)
})

test('paths that are no method are left to others', async () => {
  expect(await post('/t.Test/Other', PROTO, text('x'))).toBeUndefined()
})

async function replies(response: Response | undefined): Promise<string[]> {
  const found: string[] = []
  let rest = new Uint8Array(await response!.arrayBuffer())
  while (rest.length > 0) {
    const end = 5 + new DataView(rest.buffer, rest.byteOffset).getUint32(1)
    found.push(untext(rest.subarray(5, end)))
    rest = rest.subarray(end)
  }
  return found
}

test('a suspended stream goes on with its sealed state, once', async () => {
  const first = await post('/t.Test/Sum', STREAM, envelope(text('4')))
  expect(await replies(first)).toEqual(['so far 4', '{}'])
  const state = first!.headers.get(STATE_HEADER)!
  const both = new Uint8Array([...envelope(text('4')), ...envelope(text('6'))])
  const second = await post('/t.Test/Sum', STREAM, both, { [STATE_HEADER]: state })
  expect(await replies(second)).toEqual(['total 10', '{}'])
  expect(second!.headers.get(STATE_HEADER)).toBeNull()
  const replayed = await post('/t.Test/Sum', STREAM, both, { [STATE_HEADER]: state })
  expect((await replies(replayed))[0]).toContain('was used before')
})

test.each<[string, (state: string) => string, string, number]>([
  ['a changed state', (state) => `${state.slice(0, -2)}AA`, '4', 0],
  ['a state of another first message', (state) => state, '5', 0],
  ['a state that is a minute old', (state) => state, '4', 60_001],
])('%s is refused', async (_, change, firstMessage, later) => {
  const opened = await post('/t.Test/Sum', STREAM, envelope(text('4')))
  const state = change(opened!.headers.get(STATE_HEADER)!)
  clock.now += later
  const body = new Uint8Array([...envelope(text(firstMessage)), ...envelope(text('6'))])
  const [answer] = await replies(await post('/t.Test/Sum', STREAM, body, { [STATE_HEADER]: state }))
  expect(JSON.parse(answer!).error.code).toBe('invalid_argument')
})

test('a state that a replica with a faster clock sealed is good once, for as long as it is good', async () => {
  clock.now += 30_000
  const opened = await post('/t.Test/Sum', STREAM, envelope(text('4')))
  clock.now -= 30_000
  const body = new Uint8Array([...envelope(text('4')), ...envelope(text('6'))])
  const resume = () => post('/t.Test/Sum', STREAM, body, { [STATE_HEADER]: opened!.headers.get(STATE_HEADER)! })
  expect(await replies(await resume())).toEqual(['total 10', '{}'])
  clock.now += 75_000
  expect((await replies(await resume()))[0]).toContain('was used before')
})

test('a state of a replica whose clock is far ahead is refused', async () => {
  clock.now += 90_000
  const opened = await post('/t.Test/Sum', STREAM, envelope(text('4')))
  clock.now -= 90_000
  const body = new Uint8Array([...envelope(text('4')), ...envelope(text('6'))])
  const resumed = await post('/t.Test/Sum', STREAM, body, { [STATE_HEADER]: opened!.headers.get(STATE_HEADER)! })
  expect((await replies(resumed))[0]).toContain('too old')
})

test('a server stream ends with its error', async () => {
  const [one, end] = await replies(await post('/t.Test/Count', STREAM, envelope(new Uint8Array(0))))
  expect(one).toBe('one')
  expect(JSON.parse(end!)).toEqual({ error: { code: 'permission_denied', message: 'no more' } })
})

test.each([
  ['a cut envelope', text('\0\0\0'), 'invalid_argument'],
  ['an envelope shorter than it says', new Uint8Array([0, 0, 0, 0, 9, 1]), 'invalid_argument'],
  ['an envelope of four gigabytes', new Uint8Array([0, 255, 255, 255, 255]), 'invalid_argument'],
  ['an end message from the client', envelope(text('{}'), 2), 'invalid_argument'],
  ['an unknown flag', envelope(text('4'), 128), 'invalid_argument'],
  ['a compressed message', envelope(text('4'), 1), 'unimplemented'],
])('%s is refused', async (_, body, code) => {
  const [answer] = await replies(await post('/t.Test/Sum', STREAM, body))
  expect(JSON.parse(answer!).error.code).toBe(code)
})

test('more envelopes than any stream needs are refused', async () => {
  const [answer] = await replies(await post('/t.Test/Many', STREAM, new Uint8Array(5 * 1025)))
  expect(JSON.parse(answer!).error.code).toBe('resource_exhausted')
})

test('more of an answer than clients take is not kept for them', async () => {
  const all = await replies(await post('/t.Test/Flood', STREAM, envelope(text('4'))))
  expect(all).toHaveLength(1)
  expect(JSON.parse(all[0]!).error.code).toBe('resource_exhausted')
})

test.each<[string, Record<string, string>, number, string]>([
  ['compression', { 'content-encoding': 'gzip' }, 501, 'unimplemented'],
  ['another version of the protocol', { 'connect-protocol-version': '2' }, 400, 'invalid_argument'],
  ['a timeout that is no number', { 'connect-timeout-ms': '1e3' }, 400, 'invalid_argument'],
  ['a timeout of eleven digits', { 'connect-timeout-ms': '10000000000' }, 400, 'invalid_argument'],
])('%s is refused', async (_, headers, status, code) => {
  const response = await post('/t.Test/Echo', PROTO, text('x'), headers)
  expect(response!.status).toBe(status)
  expect(((await response!.json()) as { code: string }).code).toBe(code)
})

test.each([
  [PROTO, 200],
  ['Application/Proto', 200],
  ['application/proto; charset=utf-8', 415],
  ['application/grpc', 415],
  ['text/plain', 415],
  [STREAM, 415],
])('the content type %s is answered with %i', async (type, status) => {
  const response = await post('/t.Test/Echo', type, text('x'))
  expect(response!.status).toBe(status)
  if (status === 415) expect(response!.headers.get('accept-post')).toBe('application/proto, application/json')
})

test('a body without declared length is cut off at the limit', async () => {
  let pulled = 0
  let cancelled = false
  const body = new ReadableStream<Uint8Array>({
    pull(controller) {
      pulled += 1
      controller.enqueue(new Uint8Array(2000))
      if (pulled === 100) controller.close()
    },
    cancel() {
      cancelled = true
    },
  })
  const request = new Request('http://server/t.Test/Echo', {
    method: 'POST',
    headers: { 'content-type': PROTO },
    body,
    duplex: 'half',
  } as RequestInit)
  const response = await handle(request, '')
  expect(await response!.json()).toMatchObject({ code: 'resource_exhausted' })
  expect(cancelled).toBe(true)
  expect(pulled).toBeLessThan(6)
})

test.each<[string, (controller: ReadableStreamDefaultController<Uint8Array>) => void, string]>([
  ['breaks off', (controller) => controller.error(new Error('reset')), 'invalid_argument'],
  ['does not end', () => {}, 'deadline_exceeded'],
])('a body that %s is refused', async (_, start, code) => {
  const request = new Request('http://server/t.Test/Echo', {
    method: 'POST',
    headers: { 'content-type': PROTO },
    body: new ReadableStream({ start }),
    duplex: 'half',
  } as RequestInit)
  expect(await (await handle(request, ''))!.json()).toMatchObject({ code })
})

test('a call is given up at its deadline, whatever its handler does', async () => {
  const response = await post('/t.Test/Hang', PROTO, text('x'), { 'connect-timeout-ms': '5' })
  expect(response!.status).toBe(504)
  expect(await response!.json()).toEqual({ code: 'deadline_exceeded', message: 'context deadline exceeded' })
})

test('whatever comes as a body of envelopes, the answer is a Connect answer', async () => {
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 64 }), async (body) => {
      const answer = await replies(await post('/t.Test/Many', STREAM, body))
      JSON.parse(answer.at(-1)!)
    }),
  )
})

test.each<[string, Peer, string | undefined]>([
  ['a holder of an SVID', identified('/agent'), 'spiffe://example.org/agent'],
  ['one that a front saw', { ...identified('/agent'), front: 'lb' } as Peer, 'spiffe://example.org/agent'],
  [
    'a holder of a WIT-SVID',
    { via: 'wit', address: '192.0.2.9', spiffeId: spiffeId(TD, '/web') },
    'spiffe://example.org/web',
  ],
  ['an operator', { via: 'operator', address: '192.0.2.9', name: 'key-1', proof: 'operator_key' }, 'key-1'],
  ['somebody unknown', { via: 'anonymous', address: '192.0.2.9' }, undefined],
])('rate limits count %s by name where there is one', async (_, peer, key) => {
  let seen: IncomingCall | undefined
  const echo: BoundMethod = {
    ...methods[0]!,
    async unary(request, call) {
      seen = call
      return request
    },
  }
  const { service: __, ...rest } = options
  const counted = connectHandler({
    ...rest,
    service: { methods: new Map([[echo.path, echo]]), services: new Set() },
    authenticate: async () => ({ peer, signed: false }),
  })
  const request = new Request('http://server/t.Test/Echo', { method: 'POST', headers: { 'content-type': PROTO } })
  expect((await counted(request, ''))!.status).toBe(200)
  expect(seen!.limitKey).toBe(key)
})
