import { expect, test } from 'vitest'
import { Entry as WireEntry } from '../proto/spire/api/types.ts'
import { StatusError } from '../src/core/error.ts'
import { type Log, silentLog } from '../src/core/log.ts'
import { parseTrustDomainName } from '../src/core/trust-domain.ts'
import type { GrpcChannel } from '../src/transport/grpc-client.ts'
import { TD } from '../test/support/svid-cache.ts'
import type { AgentEntry } from './entry.ts'
import { type SyncResult, synchronise } from './sync.ts'

// What an agent makes of the answers of a server, whatever those are.

interface Revision {
  readonly id: string
  readonly revisionNumber?: number
  readonly createdAt?: number
  readonly federatesWith?: readonly string[]
  readonly selectors?: WireEntry['selectors']
}

const entryOf = ({ id, revisionNumber = 1, createdAt = 5, ...says }: Revision): WireEntry =>
  ({
    ...WireEntry.decode(new Uint8Array(0)),
    id,
    spiffeId: { trustDomain: 'example.org', path: `/${id}` },
    selectors: [{ type: 'u', value: '1' }],
    revisionNumber,
    createdAt,
    ...says,
  }) as WireEntry
const bundleOf = (trustDomain: string) => ({
  trustDomain,
  x509Authorities: [],
  jwtAuthorities: [],
  witAuthorities: [],
  refreshHint: 0,
  sequenceNumber: 0,
})

/** A server with entries that it gives in pages, and what it was asked. */
function serving(entries: readonly Revision[], pageSize = 2) {
  const asked: string[] = []
  const sent: (readonly string[])[] = []
  const warned: string[] = []
  let ended = false
  let atOnce = 0
  const replies: object[] = []
  const pages = <T>(all: readonly T[], name: string) => {
    for (let start = 0; start === 0 || start < all.length; start += pageSize)
      replies.push({
        entryRevisions: [],
        entries: [],
        [name]: all.slice(start, start + pageSize),
        more: start + pageSize < all.length,
      })
  }
  const server = {
    asked,
    sent,
    warned,
    replies,
    ended: () => ended,
    mostAtOnce: 0,
    onFirst: () =>
      pages(
        entries.map(({ id, revisionNumber = 1, createdAt = 5 }) => ({ id, revisionNumber, createdAt })),
        'entryRevisions',
      ),
    federated: async (name: string): Promise<object> => bundleOf(name),
    async sync(known: SyncResult = { entries: new Map(), bundles: new Map() }, useSyncAuthorizedEntries = true) {
      return synchronise(channel, known, { trustDomain: TD, useSyncAuthorizedEntries, log })
    },
  }
  const warn = (message: string, fields: object = {}) => void warned.push(`${message} ${Object.values(fields)[0]}`)
  const log: Log = { ...silentLog, warn }
  const channel: GrpcChannel = {
    async unary(method, request) {
      const name = method.path.slice(method.path.lastIndexOf('/') + 1)
      const { trustDomain = '' } = request as { trustDomain?: string }
      asked.push(`${name} ${trustDomain}`.trim())
      if (name === 'GetBundle') return bundleOf('example.org') as never
      if (name === 'GetAuthorizedEntries') return { entries: entries.map(entryOf) } as never
      atOnce += 1
      server.mostAtOnce = Math.max(server.mostAtOnce, atOnce)
      await new Promise((resolve) => setImmediate(resolve))
      atOnce -= 1
      return server.federated(trustDomain) as never
    },
    serverStream: () => {
      throw new Error('not asked for')
    },
    bidi() {
      let first = true
      return {
        async send(message) {
          const { ids } = message as { ids: readonly string[] }
          sent.push(ids)
          if (first) server.onFirst()
          else pages(entries.filter(({ id }) => ids.includes(id)).map(entryOf), 'entries')
          first = false
        },
        end() {
          ended = true
        },
        cancel() {},
        messages: (async function* () {
          while (replies.length > 0) yield replies.shift() as never
        })(),
      }
    },
    close() {},
  }
  return server
}

const ids = ({ entries }: SyncResult) => [...entries.keys()].sort()
const named = (...names: readonly string[]): Revision[] => names.map((id) => ({ id }))

test('entries of all pages are taken, asked for by pages of the same size, in one order', async () => {
  const server = serving(named('e', 'd', 'c', 'b', 'a'))
  expect(ids(await server.sync())).toEqual(['a', 'b', 'c', 'd', 'e'])
  expect(server.sent).toEqual([[], ['a', 'b'], ['c', 'd'], ['e']])
  expect(server.ended()).toBe(true)
  // The server may give what was asked for in several answers, too.
  const slow = serving(named('a', 'b'))
  const { replies } = slow
  slow.onFirst = () => {
    replies.push(
      {
        entryRevisions: [
          { id: 'a', revisionNumber: 1, createdAt: 5 },
          { id: 'b', revisionNumber: 1, createdAt: 5 },
        ],
        entries: [],
        more: false,
      },
      { entryRevisions: [], entries: [entryOf({ id: 'a' })], more: true },
      { entryRevisions: [], entries: [entryOf({ id: 'b' })], more: false },
    )
  }
  expect(ids(await slow.sync())).toEqual(['a', 'b'])
})

test.each<[string, Partial<Revision>, boolean]>([
  ['of the same revision', {}, false],
  ['of a later revision', { revisionNumber: 2 }, true],
  ['of an earlier one', { revisionNumber: 0 }, true],
  ['that was created at another time: its id is used again', { createdAt: 6 }, true],
  ['whose time of creation the server does not say', { createdAt: 0 }, false],
])('an entry %s is asked for again: %s', async (_, says, again) => {
  const first = await serving(named('a', 'b')).sync()
  const server = serving([{ id: 'a', ...says }, { id: 'b' }])
  const second = await server.sync(first)
  expect(server.sent).toEqual(again ? [[], ['a']] : [[]])
  expect(second.entries.get('a') === first.entries.get('a')).toBe(!again)
  expect(second.entries.get('b')).toBe(first.entries.get('b'))
})

test('an entry that the server names no more is gone', async () => {
  const first = await serving(named('a', 'b')).sync()
  expect(ids(await serving(named('b')).sync(first))).toEqual(['b'])
  expect(ids(await serving([]).sync(first))).toEqual([])
})

test.each<[string, Revision]>([
  ['without an id', { id: '' }],
  ['with a revision below zero', { id: 'odd', revisionNumber: -1 }],
])('a revision %s is left out, with a warning', async (_, odd) => {
  const server = serving([odd, { id: 'a' }])
  expect(ids(await server.sync())).toEqual(['a'])
  expect(server.sent).toEqual([[], ['a']])
  expect(server.warned).toEqual([expect.stringContaining('Received malformed entry revision')])
})

test('an entry that makes no sense is left out, with a warning that names it', async () => {
  const server = serving([{ id: 'for-everybody', selectors: [] }, { id: 'a' }])
  expect(ids(await server.sync())).toEqual(['a'])
  expect(server.warned).toEqual([expect.stringMatching(/^Received malformed entry from SPIRE server.* for-everybody$/)])
})

test('a server that gives entries without revisions, or knows no revisions, is taken at its word', async () => {
  const server = serving([])
  server.onFirst = () => server.replies.push({ entryRevisions: [], entries: [entryOf({ id: 'a' })], more: false })
  expect(ids(await server.sync())).toEqual(['a'])
  expect(server.ended()).toBe(true)
  const old = serving(named('a', 'b', 'c'))
  expect(ids(await old.sync(undefined, false))).toEqual(['a', 'b', 'c'])
  expect(old.sent).toEqual([])
})

test('what ends early is no list of entries: the others would lose theirs', async () => {
  const server = serving(named('a', 'b', 'c'))
  const { onFirst } = server
  server.onFirst = () => {
    onFirst()
    server.replies.pop()
  }
  await expect(server.sync()).rejects.toMatchObject({
    code: 'UNKNOWN',
    message: 'failed to fetch authorized entries: EOF',
  })
})

test('why the server refused stays with the error, a bug is left as it is', async () => {
  const details = [{ typeUrl: 'x', value: new Uint8Array(1) }]
  for (const [error, wanted] of [
    [
      new StatusError('PERMISSION_DENIED', 'no', { details }),
      { code: 'PERMISSION_DENIED', message: 'failed to fetch authorized entries: no', details },
    ],
    [new TypeError('a bug'), { name: 'TypeError', message: 'a bug' }],
  ] as const) {
    const server = serving([])
    server.onFirst = () => {
      throw error
    }
    await expect(server.sync()).rejects.toMatchObject(wanted)
  }
})

test('each trust domain that entries federate with is asked for once, ten at a time, and never the own one', async () => {
  const others = Array.from({ length: 25 }, (_, index) => `td-${index}.org`)
  const server = serving([
    { id: 'a', federatesWith: [...others, 'example.org'] },
    { id: 'b', federatesWith: others.slice(3) },
  ])
  const first = await server.sync()
  expect([...first.bundles.keys()].sort()).toEqual(['example.org', ...others].sort())
  // New ones are read twice.
  expect(server.asked.filter((text) => text === 'GetFederatedBundle td-7.org')).toHaveLength(2)
  expect(server.asked).toHaveLength(2 * (1 + others.length))
  expect(server.mostAtOnce).toBe(10)
  const again = serving([{ id: 'a', federatesWith: others }])
  await again.sync(first)
  expect(again.asked).toHaveLength(1 + others.length)
})

test('a new bundle of the own trust domain alone is read once', async () => {
  const server = serving(named('a'))
  await server.sync()
  expect(server.asked).toEqual(['GetBundle'])
})

test('a federated bundle that the server does not have is missing, one that it cannot give is an error', async () => {
  const entries: Revision[] = [{ id: 'a', federatesWith: ['one.org', 'two.org'] }]
  const server = serving(entries)
  server.federated = async (name) => {
    if (name === 'one.org') throw new StatusError('NOT_FOUND', 'bundle not found')
    return bundleOf(name)
  }
  const { bundles, entries: taken } = await server.sync()
  expect([...bundles.keys()]).toEqual(['example.org', 'two.org'])
  expect((taken.get('a') as AgentEntry).federatesWith).toEqual([
    parseTrustDomainName('one.org'),
    parseTrustDomainName('two.org'),
  ])
  expect(server.warned).toEqual(['Federated bundle not found one.org', 'Federated bundle not found one.org'])
  const failing = serving(entries)
  for (const error of [new StatusError('UNAVAILABLE', 'gone'), Object.assign(new Error('no'), { code: 'NOT_FOUND' })]) {
    failing.federated = () => Promise.reject(error)
    await expect(failing.sync()).rejects.toBe(error)
  }
})
