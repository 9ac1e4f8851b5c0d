import { beforeAll, expect, test } from 'vitest'
import { type Entries, Status } from '../../proto/spire/server/journal.ts'
import { AT, type Made, makeCertificate } from '../../test/support/x509.ts'
import type { Bundle } from '../core/bundle.ts'
import { parseTrustDomainName } from '../core/trust-domain.ts'
import { generateSigner, type MemorySigner, nodeVerifier } from '../plugins/signer.ts'
import type { Journal, JournalKind } from './journal.ts'
import { loadSlots, type SlotSource } from './slot-loading.ts'

const DAY = 86_400
let key: MemorySigner
let other: MemorySigner
let ca: Made
let foreign: Made
beforeAll(async () => {
  key = await generateSigner('ec-p256')
  other = await generateSigner('ec-p256')
  ca = await makeCertificate({ name: 'ca', ca: true, key, notAfter: AT + DAY })
  foreign = await makeCertificate({ name: 'ca', ca: true, key: other, notAfter: AT + DAY })
})

const x509Of = (changes: Partial<Entries['x509CAs'][number]> = {}) => ({
  slotId: 'A',
  issuedAt: AT,
  certificate: ca.der,
  upstreamChain: [] as Uint8Array[],
  status: Status.ACTIVE,
  authorityId: 'ca',
  notAfter: AT + DAY,
  upstreamAuthorityId: '',
  ...changes,
})
const keyOf = (changes: Partial<Entries['jwtKeys'][number]> = {}) => ({
  slotId: 'A',
  issuedAt: AT,
  notAfter: AT + DAY,
  kid: 'k',
  publicKey: key.publicKey,
  status: Status.ACTIVE,
  authorityId: 'k',
  ...changes,
})
const bundleOf = (changes: Partial<Bundle> = {}): Bundle => ({
  trustDomain: parseTrustDomainName('example.org'),
  x509Authorities: [{ der: ca.der, tainted: false }],
  jwtAuthorities: [{ keyId: 'k', publicKey: key.publicKey, expiresAt: 0, tainted: false }],
  witAuthorities: [{ keyId: 'k', publicKey: key.publicKey, expiresAt: 0, tainted: false }],
  refreshHintSeconds: 0,
  sequenceNumber: 0,
  ...changes,
})

/** What is in the slots if this is in the journal, and all else is as it should be. */
async function loaded(entries: Partial<Entries>, changes: Partial<SlotSource> = {}) {
  const journal = { entries: (kind: JournalKind) => entries[kind] ?? [] } as unknown as Journal
  const names = ['x509-CA', 'JWT-Signer', 'WIT-Signer'].flatMap((name) => [`${name}-A`, `${name}-B`])
  const { x509, jwt, wit } = await loadSlots({
    journal,
    keys: new Map(names.map((name) => [name, key])),
    bundle: bundleOf(),
    hasUpstream: false,
    verify: nodeVerifier(),
    now: AT,
    ...changes,
  })
  return [x509, jwt, wit].map(
    ({ current, next }) => `${current.letter} ${current.status}, ${next.letter} ${next.status}`,
  )
}
const NONE = 'A empty, B empty'
const ACTIVE = 'A active, B empty'
const all = (x509 = {}, keys = {}) => ({ x509CAs: [x509Of(x509)], jwtKeys: [keyOf(keys)], witKeys: [keyOf(keys)] })

test('what is trusted, not over and of the key that is held is taken up', async () => {
  expect(await loaded(all())).toEqual([ACTIVE, ACTIVE, ACTIVE])
  expect(await loaded(all({ notAfter: AT }, { notAfter: AT }))).toEqual([ACTIVE, ACTIVE, ACTIVE])
})

test('nothing is taken up with another key than its own', async () => {
  expect(
    await loaded(all({ certificate: foreign.der }, { publicKey: other.publicKey }), {
      bundle: bundleOf({ x509Authorities: [ca, foreign].map(({ der }) => ({ der, tainted: false })) }),
    }),
  ).toEqual([NONE, NONE, NONE])
  expect(await loaded(all(), { keys: new Map() })).toEqual([NONE, NONE, NONE])
  expect(await loaded(all(), { keys: new Map([['x509-CA-B', key]]) })).toEqual([NONE, NONE, NONE])
})

test('nothing is taken up that nobody trusts, or that is over', async () => {
  const empty = bundleOf({ x509Authorities: [], jwtAuthorities: [], witAuthorities: [] })
  for (const bundle of [undefined, empty]) expect(await loaded(all(), { bundle })).toEqual([NONE, NONE, NONE])
  const others = bundleOf({
    x509Authorities: [{ der: foreign.der, tainted: false }],
    jwtAuthorities: [{ keyId: 'other', publicKey: key.publicKey, expiresAt: 0, tainted: false }],
    witAuthorities: [],
  })
  expect(await loaded(all(), { bundle: others })).toEqual([NONE, NONE, NONE])
  expect(await loaded(all({ notAfter: AT - 1 }, { notAfter: AT - 1 }))).toEqual([NONE, NONE, NONE])
  expect(await loaded(all({ slotId: 'C' }, { slotId: '' }))).toEqual([NONE, NONE, NONE])
})

test('below an upstream what is taken up must lead to a root that is trusted', async () => {
  const root = await makeCertificate({ name: 'root', ca: true, notAfter: AT + DAY })
  const below = await makeCertificate({ name: 'below', ca: true, key, notAfter: AT + DAY }, root)
  const entry = { x509CAs: [x509Of({ certificate: below.der, upstreamChain: [below.der] })] }
  const trusting = (...roots: Made[]) =>
    bundleOf({ x509Authorities: roots.map(({ der }) => ({ der, tainted: false })) })
  expect((await loaded(entry, { hasUpstream: true, bundle: trusting(root) }))[0]).toBe(ACTIVE)
  for (const bundle of [undefined, trusting(), trusting(foreign), trusting(ca)])
    expect((await loaded(entry, { hasUpstream: true, bundle }))[0]).toBe(NONE)
  expect((await loaded(entry, { bundle: trusting(root) }))[0]).toBe(NONE)
})

test('the newest of each status counts, and two authorities have two slots', async () => {
  const statuses = async (...entries: [slotId: string, status: Status][]) =>
    (await loaded({ jwtKeys: entries.map(([slotId, status]) => keyOf({ slotId, status })) }))[1]
  expect(await statuses(['A', Status.OLD], ['B', Status.ACTIVE])).toBe('B active, A old')
  expect(await statuses(['A', Status.ACTIVE], ['B', Status.PREPARED])).toBe('A active, B prepared')
  expect(await statuses(['B', Status.PREPARED])).toBe('B prepared, A empty')
  expect(await statuses(['A', Status.ACTIVE], ['A', Status.PREPARED])).toBe('A active, B empty')
})
