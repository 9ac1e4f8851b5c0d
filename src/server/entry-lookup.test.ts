import fc from 'fast-check'
import { expect, test } from 'vitest'
import { PLAIN_ENTRY } from '../../test/support/entry.ts'
import type { Entry } from '../core/entry.ts'
import { silentLog } from '../core/log.ts'
import { parseSpiffeId } from '../core/spiffe-id.ts'
import type { Change, NewEntry, Store } from '../core/store.ts'
import { parseTrustDomainName } from '../core/trust-domain.ts'
import { openLibsqlStore } from '../store/libsql.ts'
import { EntryIndex, type Reading } from './entry-index.ts'
import { entriesInMemory } from './entry-lookup.ts'

const TD = parseTrustDomainName('example.org')
const id = (path: string) => parseSpiffeId(`spiffe://example.org/${path}`)
const AGENTS = ['spire/agent/a', 'spire/agent/b', 'spire/agent/c'].map(id)
const EARNED = [{ type: 'x', value: '1' }]

function entry(name: string, parent: string, changes: Partial<NewEntry> = {}): NewEntry {
  return {
    id: name,
    spiffeId: id(`w/${name}`),
    parentId: id(parent),
    selectors: EARNED,
    ...PLAIN_ENTRY,
    ...changes,
  }
}

async function open(entries: readonly NewEntry[]): Promise<Store> {
  const store = await openLibsqlStore({ log: silentLog })
  await store.entries.create(entries, 1)
  return store
}

const MANY = [
  entry('alias', 'spire/server', { spiffeId: id('cluster') }),
  ...Array.from({ length: 9 }, (_, at) => entry(`e${at}`, ['spire/agent/a', 'spire/agent/b', 'cluster'][at % 3]!)),
  entry('below', 'w/e4'),
]

/** What every agent is told, and who has an ID, in whatever order. */
async function answersOf(lookup: Pick<ReturnType<typeof entriesInMemory>, 'entriesFor' | 'bySpiffeId'>) {
  const text = (found: readonly Entry[]) => found.map((one) => JSON.stringify(Object.entries(one).sort())).sort()
  const answers: Record<string, readonly string[]> = {}
  for (const agent of AGENTS)
    for (const selectors of [[], EARNED])
      answers[`${agent} ${selectors.length}`] = text(await lookup.entriesFor(agent, selectors))
  for (const name of ['cluster', 'w/e0', 'w/e8', 'w/moved']) answers[name] = text(await lookup.bySpiffeId(id(name)))
  return answers
}

/** The answers that follow from what is stored, by an index that was read in one go. */
async function rightAnswers(store: Store) {
  const unwatched = { entries: store.entries, changes: { ...store.changes, subscribe: () => () => {} } }
  return answersOf(await EntryIndex.load(unwatched, TD))
}

/** Reads an index page by page, doing something between two of them. */
async function readWith(store: Pick<Store, 'entries' | 'changes'>, between: (page: number) => Promise<void>) {
  let pages = 0
  const reading: Reading = {
    pageSize: 2,
    pause: () => between(++pages),
    failed: (error) => Promise.reject(error),
  }
  const index = new EntryIndex(store, TD, reading)
  const lookup = entriesInMemory(index, store.entries)
  return { index, lookup, read: () => index.read(), pages: () => pages }
}

test('before, while and after the index is read every answer is whole', async () => {
  const store = await open(MANY)
  const { index, lookup, read, pages } = await readWith(store, async () => {
    expect([index.stands, lookup.byId]).toEqual([false, undefined])
    expect(await answersOf(lookup)).toEqual(await rightAnswers(store))
  })
  expect(await answersOf(lookup)).toEqual(await rightAnswers(store))
  await read()
  expect([index.stands, lookup.byId!.size, pages()]).toEqual([true, MANY.length, 5])
  expect(await answersOf(lookup)).toEqual(await rightAnswers(store))
})

const writes: Record<string, (store: Store) => Promise<unknown>> = {
  'an entry that is new': ({ entries }) => entries.create([entry('new', 'spire/agent/a')], 2),
  'one that moves, and was read': ({ entries }) => entries.update('e0', { parentId: AGENTS[1]! }),
  'one that moves, and was not read yet': ({ entries }) => entries.update('e6', { parentId: AGENTS[1]! }),
  'one that gives another ID': ({ entries }) => entries.update('e3', { spiffeId: id('w/moved') }),
  'one that goes, and was read': ({ entries }) => entries.delete('e0'),
  'one that goes, and was not read yet': ({ entries }) => entries.delete('e8'),
  'an id that is used again elsewhere': async ({ entries }) => {
    await entries.delete('e0')
    await entries.create([entry('e0', 'spire/agent/c')], 2)
  },
  'an alias that is earned no more': ({ entries }) =>
    entries.update('alias', { selectors: [{ type: 'x', value: '2' }] }),
}

test.each(Object.entries(writes))('%s while the index is read is told at once and not lost', async (_, write) => {
  for (const when of [1, 3, 5]) {
    const store = await open(MANY)
    const { lookup, read } = await readWith(store, async (page) => {
      if (page === when) await write(store)
      expect(await answersOf(lookup)).toEqual(await rightAnswers(store))
    })
    await read()
    expect(await answersOf(lookup)).toEqual(await rightAnswers(store))
    await store.close()
  }
})

test('whatever is written while the index is read, it ends as what is stored', async () => {
  const parents = fc.constantFrom('spire/agent/a', 'spire/agent/b', 'spire/server', 'cluster', 'w/e1')
  const step = fc.record({
    page: fc.integer({ min: 1, max: 7 }),
    name: fc.constantFrom('alias', 'below', ...Array.from({ length: 9 }, (_, at) => `e${at}`), 'new'),
    parent: parents,
    gone: fc.boolean(),
  })
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 12 }), async (steps) => {
      const store = await open(MANY)
      const { lookup, read } = await readWith(store, async (page) => {
        for (const { name, parent, gone } of steps.filter((one) => one.page === page)) {
          if (gone) await store.entries.delete(name)
          else if (await store.entries.get(name)) await store.entries.update(name, { parentId: id(parent) })
          else await store.entries.create([entry(name, parent)], 2)
        }
      })
      await read()
      expect(await answersOf(lookup)).toEqual(await rightAnswers(store))
      await store.close()
    }),
    { numRuns: 40 },
  )
}, 60_000)

test('an entry that two pages hold, since it was deleted and made again, is known as the later one alone', async () => {
  const store = await open(MANY)
  // Nobody tells of it: as where another server writes, and the log is read later.
  const silent = { entries: store.entries, changes: { ...store.changes, subscribe: () => () => {} } }
  const { index, read } = await readWith(silent, async (page) => {
    if (page === 1) await writes['an id that is used again elsewhere']!(store)
  })
  await read()
  expect(await answersOf(index)).toEqual(await rightAnswers(store))
})

test('a page that cannot be read is told, and all are read again; the database answers until then', async () => {
  const store = await open(MANY)
  let pagesUntilFailure = 2
  const entries: Store['entries'] = {
    ...store.entries,
    list: async (filter, page) => {
      if (page.size === 2 && pagesUntilFailure-- === 0) throw new Error('disk on fire')
      return store.entries.list(filter, page)
    },
  }
  const failures: string[] = []
  const index = new EntryIndex({ entries, changes: store.changes }, TD, {
    pageSize: 2,
    pause: async () => {},
    failed: async (error) => {
      failures.push((error as Error).message)
      expect(index.stands).toBe(false)
      await store.entries.delete('e0')
      expect(await answersOf(lookup)).toEqual(await rightAnswers(store))
    },
  })
  const lookup = entriesInMemory(index, entries)
  await index.read()
  expect(failures).toEqual(['disk on fire'])
  expect(index.stands).toBe(true)
  expect(await answersOf(lookup)).toEqual(await rightAnswers(store))
})

test('when changes are lost the database answers until all is read anew, also in the middle of reading', async () => {
  const store = await open(MANY)
  let tell: (changes: readonly Change[]) => void = () => {}
  let reload: () => unknown = () => {}
  const changes = {
    ...store.changes,
    subscribe: (listener: typeof tell, again: typeof reload) => {
      tell = listener
      reload = again
      return () => {}
    },
  } as Store['changes']
  let again: unknown
  const { index, lookup, read, pages } = await readWith({ entries: store.entries, changes }, async (page) => {
    if (page !== 3) return
    // Told of a state that is not the last one, which only the second reading finds.
    tell([{ sequence: 99, kind: 'entry', key: 'e0', entry: (await store.entries.get('e0'))! }])
    await store.entries.delete('e0')
    again = reload()
  })
  await read()
  expect([index.stands, pages()]).toEqual([true, 3 + 5])
  expect(await answersOf(lookup)).toEqual(await rightAnswers(store))
  await again

  await store.entries.delete('e1')
  const done = reload()
  expect(index.stands).toBe(false)
  expect(await answersOf(lookup)).toEqual(await rightAnswers(store))
  await done
  expect(index.stands).toBe(true)
  expect(await answersOf(lookup)).toEqual(await rightAnswers(store))
})
