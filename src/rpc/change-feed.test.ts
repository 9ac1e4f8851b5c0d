import { expect, test } from 'vitest'
import { StatusError } from '../core/error.ts'
import { changeFeed, type FeedCalls, type News } from './change-feed.ts'

const unimplemented = () => new StatusError('UNIMPLEMENTED', 'no such method')
const bundle: News = { bundle: true, entries: false }
const nothing: News = { bundle: false, entries: false }

/** A server that offers some of both ways, and what it was asked. */
function server(offers: {
  readonly watch?: readonly News[]
  readonly poll?: readonly (News & { readonly pollAgainMs?: number })[]
}) {
  const asked: string[] = []
  const answers = [...(offers.poll ?? [])]
  const calls: FeedCalls = {
    async *watch() {
      asked.push('watch')
      if (!offers.watch) throw unimplemented()
      yield* offers.watch
    },
    async poll({ cursor }) {
      asked.push(`poll ${cursor}`)
      const next = answers.shift()
      if (!offers.poll) throw unimplemented()
      if (!next) throw new StatusError('UNAVAILABLE', 'the end of the test')
      return { pollAgainMs: 0, ...next, cursor: `c${asked.length}` }
    },
  }
  return { asked, calls }
}

async function follow({ asked, calls }: ReturnType<typeof server>, pollOnly = false) {
  const news: News[] = []
  const waits: number[] = []
  const wait = async (ms: number) => {
    waits.push(ms)
  }
  let end = ''
  try {
    const feed = changeFeed(calls, { pollOnly, wait, signal: new AbortController().signal })
    for await (const { bundle: b, entries } of feed) news.push({ bundle: b, entries })
  } catch (error) {
    end = (error as StatusError).code
  }
  return { news, waits, asked, end }
}

test('a stream is watched where there is one', async () => {
  expect(await follow(server({ watch: [bundle], poll: [] }))).toEqual({
    news: [bundle],
    waits: [],
    asked: ['watch'],
    end: '',
  })
})

test('where there is none the server is asked from cursor to cursor, at its pace', async () => {
  const { news, waits, asked } = await follow(
    server({ poll: [bundle, { ...nothing, pollAgainMs: 1000 }, { ...bundle, pollAgainMs: 10_000_000 }] }),
  )
  expect(news).toEqual([bundle, bundle])
  expect(waits).toEqual([1000, 60_000])
  expect(asked).toEqual(['watch', 'poll ', 'poll c2', 'poll c3', 'poll c4'])
})

test('over HTTP asking comes first', async () => {
  expect((await follow(server({ watch: [bundle], poll: [bundle] }), true)).asked).toEqual(['poll ', 'poll c1'])
})

test('over HTTP there is no falling back to a stream, which nobody signs', async () => {
  expect(await follow(server({ watch: [bundle] }), true)).toMatchObject({ asked: ['poll '], end: 'UNIMPLEMENTED' })
})

test('a server without either says so', async () => {
  expect((await follow(server({}))).end).toBe('UNIMPLEMENTED')
})

test('an error other than that ends the feed', async () => {
  expect((await follow(server({ poll: [bundle] }), true)).end).toBe('UNAVAILABLE')
})
