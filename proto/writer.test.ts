import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import { expect, test } from 'vitest'
import { X509SVIDResponse } from './spiffe/workload.ts'
import { ListEntriesResponse } from './spire/api/server/entry/v1.ts'
import { Entry } from './spire/api/types.ts'
import { pooledWriter } from './writer.ts'

/** Every method of a writer, at its edges. */
const STEPS: readonly [name: string, write: (writer: BinaryWriter) => BinaryWriter][] = [
  ['tag', (w) => w.tag(536870911, WireType.Bit32)],
  ['uint32', (w) => w.uint32(0).uint32(127).uint32(128).uint32(0xffffffff)],
  ['int32', (w) => w.int32(0).int32(300).int32(-1).int32(-0x80000000).int32(0x7fffffff)],
  ['sint32', (w) => w.sint32(-1).sint32(1).sint32(-0x80000000)],
  [
    'int64',
    (w) =>
      w
        .int64(0)
        .int64(-1)
        .int64(2 ** 53)
        .int64('-9223372036854775808')
        .int64(9223372036854775807n),
  ],
  ['uint64', (w) => w.uint64(1).uint64('18446744073709551615')],
  ['sint64', (w) => w.sint64(-1).sint64('-9223372036854775808')],
  ['fixed', (w) => w.fixed32(0xdeadbeef).sfixed32(-2).fixed64(5).sfixed64(-5)],
  ['float', (w) => w.float(1.5).double(Math.PI).double(Number.NEGATIVE_INFINITY)],
  ['bool', (w) => w.bool(true).bool(false)],
  ['string', (w) => w.string('').string('a'.repeat(32)).string('é'.repeat(100)).string('€'.repeat(60)).string('😀')],
  ['bytes', (w) => w.bytes(new Uint8Array(0)).bytes(new Uint8Array(20_000).fill(7)).raw(Uint8Array.of(1, 2))],
  ['fork', (w) => w.fork().fork().bytes(new Uint8Array(130)).join().fork().join().uint32(1).join()],
  ['wide fork', (w) => w.fork().raw(new Uint8Array(20_000)).join().string('after')],
]

test.each(STEPS)('%s writes what the stock writer writes', (_name, write) => {
  const expected = write(new BinaryWriter()).finish()
  for (let round = 0; round < 3; round++) expect(write(pooledWriter()).finish()).toEqual(expected)
})

const svids: X509SVIDResponse = {
  svids: Array.from({ length: 10 }, (_, index) => ({
    spiffeId: `spiffe://example.org/service/${index}`,
    x509Svid: new Uint8Array(680).fill(index),
    x509SvidKey: new Uint8Array(138).fill(index + 1),
    bundle: new Uint8Array(510).fill(index + 2),
    hint: index % 2 ? 'internal' : '',
  })),
  crl: [Uint8Array.of(1)],
  federatedBundles: { 'spiffe://one.test': new Uint8Array(200), 'spiffe://two.test': new Uint8Array(0) },
}

test('a message with nested messages and a map is the same, after longer and shorter ones', () => {
  const empty: X509SVIDResponse = { svids: [], crl: [], federatedBundles: {} }
  for (const message of [svids, empty, { ...empty, crl: [Uint8Array.of(9)] }, svids]) {
    expect(X509SVIDResponse.encode(message, pooledWriter()).finish()).toEqual(X509SVIDResponse.encode(message).finish())
  }
})

test('a finished message is not touched by the next one', () => {
  const first = X509SVIDResponse.encode(svids, pooledWriter()).finish()
  const copy = first.slice()
  pooledWriter().raw(new Uint8Array(first.length).fill(0xff)).finish()
  expect(first).toEqual(copy)
  expect(first.buffer.byteLength).toBe(first.length)
})

test('two messages written at the same time do not meet', () => {
  const outer = pooledWriter().string('outer')
  const inner = pooledWriter().string('inner')
  expect(inner).not.toBe(outer)
  expect([...inner.finish()]).toEqual([5, ...Buffer.from('inner')])
  expect([...outer.finish()]).toEqual([5, ...Buffer.from('outer')])
})

test('a finished writer serves the next message, a huge one does not', () => {
  const writer = pooledWriter().bool(true)
  writer.finish()
  const next = pooledWriter()
  expect(next).toBe(writer)
  next.raw(new Uint8Array((1 << 20) + 1)).finish()
  expect(pooledWriter()).not.toBe(next)
})

test('a message that could not be encoded leaves nothing behind', () => {
  const bad = { ...Entry.decode(new Uint8Array()), id: 'half', expiresAt: 1.5 }
  expect(() => ListEntriesResponse.encode({ entries: [bad], nextPageToken: '' }, pooledWriter()).finish()).toThrow()
  expect([...pooledWriter().string('whole').finish()]).toEqual([5, ...Buffer.from('whole')])
})
