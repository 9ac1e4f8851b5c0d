import fc from 'fast-check'
import { expect, test } from 'vitest'
import { EntryMask } from '../../proto/spire/api/types.ts'
import type { Entry } from '../core/entry.ts'
import { EncodedMessage } from '../rpc/method.ts'
import { KeptMessages, maskKind } from './kept-messages.ts'

const list = (): readonly Entry[] => []
/** Makes messages of that size, each time new ones. */
const of = (size: number) => () => [new EncodedMessage(new Uint8Array(size))]

test('messages are made once for each list and kind', () => {
  const kept = new KeptMessages(1_000_000)
  const [one, another] = [list(), list()]
  const first = kept.of(one, 1, of(10))
  expect(kept.of(one, 1, of(10))).toBe(first)
  expect(kept.of(one, 2, of(10))).not.toBe(first)
  expect(kept.of(another, 1, of(10))).not.toBe(first)
  expect(kept.of(one, 1, of(10))).toBe(first)
})

test('what was not asked for longest makes room, and what is larger than the room is not kept', () => {
  const kept = new KeptMessages(10_000)
  const lists = [list(), list(), list()]
  const [a, b] = [kept.of(lists[0]!, 1, of(4000)), kept.of(lists[1]!, 1, of(4000))]
  expect(kept.of(lists[0]!, 1, of(4000))).toBe(a)
  kept.of(lists[2]!, 1, of(4000))
  expect(kept.of(lists[0]!, 1, of(4000))).toBe(a)
  expect(kept.of(lists[1]!, 1, of(4000))).not.toBe(b)
  const large = list()
  expect(kept.of(large, 1, of(20_000))).not.toBe(kept.of(large, 1, of(20_000)))
  expect(kept.bytes).toBeLessThanOrEqual(10_000)
})

test('however many kinds of one list are asked for, they take no more than the room', () => {
  const kept = new KeptMessages(10_000)
  const one = list()
  for (let kind = 0; kind < 1000; kind++) {
    kept.of(one, kind, of(100))
    expect(kept.bytes).toBeLessThanOrEqual(10_000)
  }
  for (let lists = 0; lists < 1000; lists++) kept.of(list(), 0, of(0))
  expect(kept.bytes).toBeLessThanOrEqual(10_000)
})

test('two masks are of one kind only if they are the same', () => {
  const masks = fc
    .tuple(...Object.keys(EntryMask.decode(new Uint8Array(0))).map(() => fc.boolean()))
    .map((flags) =>
      Object.fromEntries(Object.keys(EntryMask.decode(new Uint8Array(0))).map((name, index) => [name, flags[index]])),
    )
  fc.assert(
    fc.property(masks, masks, (one, another) => {
      const same = JSON.stringify(one) === JSON.stringify(another)
      expect(maskKind(one as never) === maskKind(another as never)).toBe(same)
      expect(maskKind(one as never)).not.toBe(maskKind(undefined))
    }),
  )
  for (const name of Object.keys(EntryMask.decode(new Uint8Array(0)))) {
    const none = EntryMask.decode(new Uint8Array(0))
    expect(maskKind({ ...none, [name]: true })).not.toBe(maskKind(none))
    expect(maskKind({ ...none, [name]: true })).toBeLessThan(1 << 16)
  }
})
