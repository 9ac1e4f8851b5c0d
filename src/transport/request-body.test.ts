import { expect, test } from 'vitest'
import { StatusError } from '../core/error.ts'
import { readBody } from './request-body.ts'

/** A request whose body comes in pieces of these sizes. */
function requestOf(sizes: readonly number[], headers: Record<string, string> = {}) {
  const seen = { pulls: 0, cancelled: false }
  const body = new ReadableStream<Uint8Array>(
    {
      pull(controller) {
        const size = sizes[seen.pulls]
        seen.pulls += 1
        if (size === undefined) controller.close()
        else controller.enqueue(new Uint8Array(size).fill(seen.pulls))
      },
      cancel() {
        seen.cancelled = true
      },
    },
    { highWaterMark: 0 },
  )
  const init = { method: 'POST', headers, body, duplex: 'half' }
  return { seen, request: new Request('http://server/', init as RequestInit) }
}

const LIMITS = { maxBytes: 10, timeoutMs: 10_000 }
const TOO_LARGE = { code: 'RESOURCE_EXHAUSTED', message: 'the request is larger than the server takes' }

test('a body may be as long as is said, in however many pieces', async () => {
  expect([...(await readBody(requestOf([10]).request, LIMITS))]).toEqual(Array(10).fill(1))
  expect([...(await readBody(requestOf([3, 0, 7], { 'content-length': '10' }).request, LIMITS))]).toEqual([
    ...Array(3).fill(1),
    ...Array(7).fill(3),
  ])
  expect(await readBody(new Request('http://server/', { method: 'POST' }), LIMITS)).toHaveLength(0)
})

test('a body that says it is longer is refused with nothing read of it', async () => {
  const { request, seen } = requestOf([1], { 'content-length': '11' })
  await expect(readBody(request, LIMITS)).rejects.toMatchObject(TOO_LARGE)
  expect(seen.pulls).toBe(0)
})

test('a body that is longer than it says is left', async () => {
  const { request, seen } = requestOf([5, 5, 1, 1], { 'content-length': '5' })
  await expect(readBody(request, LIMITS)).rejects.toMatchObject(TOO_LARGE)
  expect(seen).toEqual({ pulls: 3, cancelled: true })
})

test('who counts what comes is told before it is kept, and can refuse it', async () => {
  const taken: number[] = []
  const { request, seen } = requestOf([2, 3, 4])
  const take = (bytes: number) => {
    taken.push(bytes)
    if (taken.length === 2) throw new StatusError('UNAVAILABLE', 'no room')
  }
  await expect(readBody(request, { ...LIMITS, take })).rejects.toMatchObject({
    code: 'UNAVAILABLE',
    message: 'no room',
  })
  expect(taken).toEqual([2, 3])
  expect(seen.cancelled).toBe(true)
})
