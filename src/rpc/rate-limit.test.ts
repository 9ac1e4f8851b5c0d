import { expect, test } from 'vitest'
import { addressWithoutPort, RateLimiter } from './rate-limit.ts'

function limiter(perSecond: number) {
  const clock = { ms: 0, nowMs: () => clock.ms }
  const waits: number[] = []
  const wait = async (milliseconds: number, signal: AbortSignal) => {
    signal.throwIfAborted()
    waits.push(milliseconds)
  }
  return { clock, waits, limiter: new RateLimiter({ perSecond, clock, wait }) }
}

const call = { signal: new AbortController().signal }

test('calls above the rate wait for their turn, in order', async () => {
  const { limiter: attest, waits } = limiter(1)
  expect(attest.take('a', 1, call)).toBeUndefined()
  await attest.take('a', 1, call)
  await attest.take('a', 1, call)
  expect(waits).toEqual([1000, 2000])
})

test('addresses do not wait for each other, and tokens come back with time', async () => {
  const { limiter: attest, waits, clock } = limiter(1)
  expect(attest.take('a', 1, call)).toBeUndefined()
  expect(attest.take('b', 1, call)).toBeUndefined()
  clock.ms = 500
  await attest.take('a', 1, call)
  expect(waits).toEqual([500])
  clock.ms = 2000
  expect(attest.take('a', 1, call)).toBeUndefined()
})

test('a cost that no waiting can meet is refused at once', () => {
  expect(() => limiter(500).limiter.take('a', 501, call)).toThrow('rate (501) exceeds burst size (500)')
})

test('a client that leaves gives its place back', async () => {
  const { limiter: attest, waits } = limiter(1)
  attest.take('a', 1, call)
  await expect(attest.take('a', 1, { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'CANCELLED' })
  await attest.take('a', 1, call)
  expect(waits).toEqual([1000])
})

test('buckets that nobody uses are dropped after two minutes at most', () => {
  const { limiter: attest, clock } = limiter(1)
  for (let address = 0; address < 100; address++) attest.take(`a${address}`, 1, call)
  clock.ms = 61_000
  attest.take('b', 1, call)
  clock.ms = 122_000
  attest.take('c', 1, call)
  expect(attest.size).toBe(2)
})

test.each([
  ['127.0.0.1:8081', '127.0.0.1'],
  ['[::1]:8081', '::1'],
  ['::1', '::1'],
  ['127.0.0.1', '127.0.0.1'],
  ['', ''],
])('the address of %s is %s', (address, host) => {
  expect(addressWithoutPort(address)).toBe(host)
})

test('many addresses at once do not fill the memory', () => {
  const { limiter: attest } = limiter(1)
  for (let number = 0; number < 200_000; number++) attest.take(`${number}`, 1, call)
  expect(attest.size).toBeLessThanOrEqual(131_072)
})
