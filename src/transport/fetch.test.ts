import { expect, test } from 'vitest'
import { StatusError } from '../core/error.ts'
import { silentLog } from '../core/log.ts'
import type { BoundMethod, BoundService } from '../rpc/service.ts'
import { envelope, readEnvelopes } from './connect-protocol.ts'
import { connectHandler, STATE_HEADER } from './fetch.ts'
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

const handle = connectHandler({
  service,
  authenticate: () => Promise.reject(new StatusError('UNAUTHENTICATED', 'nobody')),
  identity: () => undefined,
  seal: new StateSeal(new Uint8Array(32).fill(7), clock),
  clock,
  log: silentLog,
  maxBodyBytes: 1000,
})

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
  ['a body over the limit', PROTO, new Uint8Array(1001), 429],
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
  return readEnvelopes(new Uint8Array(await response!.arrayBuffer())).map(untext)
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

test('a server stream ends with its error', async () => {
  const [one, end] = await replies(await post('/t.Test/Count', STREAM, envelope(new Uint8Array(0))))
  expect(one).toBe('one')
  expect(JSON.parse(end!)).toEqual({ error: { code: 'permission_denied', message: 'no more' } })
})

test.each([
  ['a cut envelope', text('\0\0\0')],
  ['an envelope shorter than it says', new Uint8Array([0, 0, 0, 0, 9, 1])],
])('%s is an invalid argument', async (_, body) => {
  const [answer] = await replies(await post('/t.Test/Sum', STREAM, body))
  expect(JSON.parse(answer!).error.code).toBe('invalid_argument')
})
