import { createPrivateKey, createPublicKey } from 'node:crypto'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { keyManagerSuite } from '../../../../test/contract/keymanager.ts'
import { memoryWrappedKeys } from '../../../../test/support/wrapped-keys.ts'
import { StatusError } from '../../../core/error.ts'
import type { WrappedKey, WrappedKeyStore } from '../../../core/store.ts'
import { parseTrustDomainName } from '../../../core/trust-domain.ts'
import { importSigner } from '../../signer.ts'
import { databaseKeyManager, type KeyEncryptionKey, parseKek } from './database.ts'
import { keyEncryptionKeys } from './edge.ts'

const trustDomain = parseTrustDomainName('example.org')
const kek = (version: string, byte = Number(version)): KeyEncryptionKey => ({
  version,
  key: new Uint8Array(32).fill(byte),
})
const open = (keys: WrappedKeyStore, ...keks: KeyEncryptionKey[]) => databaseKeyManager({ trustDomain, keys, keks })
const failure = (promise: Promise<unknown>) =>
  promise.then(
    () => undefined,
    (error: unknown) => error,
  )

describe('database', () => keyManagerSuite(() => open(memoryWrappedKeys(), kek('1'))))
describe('database, signing with node:crypto', () =>
  keyManagerSuite(() =>
    databaseKeyManager({
      trustDomain,
      keys: memoryWrappedKeys(),
      keks: [kek('1')],
      importKey: (pkcs8) => importSigner(pkcs8),
    }),
  ))

test('replicas that share a database share keys, and none of them can be read there', async () => {
  const keys = memoryWrappedKeys()
  const one = await open(keys, kek('1'))
  const two = await open(keys, kek('1'))
  const signer = await one.generateKey('x509-CA-A', 'ec-p256')
  expect((await two.getKey('x509-CA-A'))?.publicKey).toEqual(signer.publicKey)
  expect((await two.getKey('x509-CA-A'))?.exportPrivateKey).toBeUndefined()
  const later = await two.generateKey('x509-CA-A', 'ec-p256')
  expect((await one.getKey('x509-CA-A'))?.publicKey).toEqual(later.publicKey)
  // Nonce, PKCS#8, tag.
  const { wrapped, kekVersion } = keys.rows.get('x509-CA-A')!
  expect(wrapped).toHaveLength(12 + 138 + 16)
  expect(kekVersion).toBe('1')
  expect(() => createPrivateKey({ key: Buffer.from(wrapped.subarray(12)), format: 'der', type: 'pkcs8' })).toThrow()
})

test('what is wrapped is the PKCS#8 of the public key beside it', async () => {
  const keys = memoryWrappedKeys()
  const seen: Uint8Array[] = []
  const manager = await databaseKeyManager({
    trustDomain,
    keys,
    keks: [kek('1')],
    importKey(pkcs8) {
      seen.push(pkcs8.slice())
      return importSigner(pkcs8)
    },
  })
  const { publicKey } = await manager.generateKey('one', 'ec-p384')
  const key = createPrivateKey({ key: Buffer.from(seen[0]!), format: 'der', type: 'pkcs8' })
  expect(new Uint8Array(createPublicKey(key).export({ type: 'spki', format: 'der' }))).toEqual(publicKey)
})

test('a new version wraps, older ones still open, and rewrapping ends the need of them', async () => {
  const keys = memoryWrappedKeys()
  const before = await (await open(keys, kek('1'))).generateKey('one', 'ec-p256')
  const both = await open(keys, kek('2'), kek('1'))
  expect((await both.getKeys()).get('one')?.publicKey).toEqual(before.publicKey)
  expect(both.shared!.needsRewrap).toBe(true)
  await both.generateKey('two', 'ec-p256')
  expect([...keys.rows.values()].map((key) => key.kekVersion)).toEqual(['1', '2'])
  const second = keys.rows.get('two')
  await both.shared!.rewrap(keys)
  expect([...keys.rows.values()].map((key) => key.kekVersion)).toEqual(['2', '2'])
  expect(keys.rows.get('two')).toBe(second)
  await both.getKeys()
  expect(both.shared!.needsRewrap).toBe(false)
  expect((await (await open(keys, kek('2'))).getKey('one'))?.publicKey).toEqual(before.publicKey)
})

test.each([
  ['lost', [kek('2')], 'wrapped with version "1" of the key-encryption key, which is not configured (configured: "2")'],
  ['another one under its name', [kek('1', 9)], 'does not open with version "1" of the key-encryption key'],
])('a key-encryption key that is %s stops everything and changes nothing', async (_, keks, text) => {
  const keys = memoryWrappedKeys()
  await (await open(keys, kek('1'))).generateKey('one', 'ec-p256')
  const stored = keys.rows.get('one')
  const manager = await open(keys, ...keks)
  for (const attempt of [
    () => manager.getKey('one'),
    () => manager.getKeys(),
    () => manager.generateKey('one', 'ec-p256'),
    () => manager.shared!.rewrap(keys),
  ]) {
    const error = await failure(attempt())
    // A wrong one under the newest name needs no rewrapping, so that has nothing to fail at.
    if (error === undefined && keks[0]!.version === '1') continue
    expect(error).toBeInstanceOf(StatusError)
    expect(String(error)).toContain('key "one"')
    expect(String(error)).toContain(text)
    expect(String(error)).toContain('Nothing was changed')
  }
  expect(keys.rows.get('one')).toBe(stored)
})

const altered: readonly [string, (key: WrappedKey, other: WrappedKey) => WrappedKey][] = [
  ['under another name', (key) => ({ ...key, id: 'two' })],
  ['of another type', (key) => ({ ...key, keyType: 'ec-p384' })],
  ['with another public key', (key, other) => ({ ...key, publicKey: other.publicKey })],
  ['under another version', (key) => ({ ...key, kekVersion: '2' })],
  ['with a changed byte', (key) => ({ ...key, wrapped: key.wrapped.with(20, key.wrapped[20]! ^ 1) })],
  ['cut short', (key) => ({ ...key, wrapped: key.wrapped.subarray(0, 11) })],
  ['emptied', (key) => ({ ...key, wrapped: new Uint8Array(0) })],
]
test.each(altered)('a stored key %s does not open', async (_, change) => {
  const keys = memoryWrappedKeys()
  const manager = await open(keys, kek('1'))
  await manager.generateKey('one', 'ec-p256')
  await manager.generateKey('other', 'ec-p256')
  const moved = change(keys.rows.get('one')!, keys.rows.get('other')!)
  const elsewhere = memoryWrappedKeys()
  await elsewhere.save(moved)
  const reader = await open(elsewhere, kek('2'), kek('1'))
  await expect(reader.getKey(moved.id)).rejects.toThrow('does not open')
})

test('a key of another trust domain does not open', async () => {
  const keys = memoryWrappedKeys()
  await (await open(keys, kek('1'))).generateKey('one', 'ec-p256')
  const foreign = await databaseKeyManager({
    trustDomain: parseTrustDomainName('other.org'),
    keys,
    keks: [kek('1')],
  })
  await expect(foreign.getKey('one')).rejects.toThrow('does not open')
})

test('a key-encryption key may be a CryptoKey that cannot be read', async () => {
  const bytes = new Uint8Array(32).fill(1)
  const key = await crypto.subtle.importKey('raw', bytes, 'AES-GCM', false, ['encrypt', 'decrypt'])
  const keys = memoryWrappedKeys()
  const { publicKey } = await (await open(keys, { version: '1', key })).generateKey('one', 'ec-p256')
  expect((await (await open(keys, kek('1'))).getKey('one'))?.publicKey).toEqual(publicKey)
  const reading = await crypto.subtle.importKey('raw', bytes, 'AES-GCM', false, ['decrypt'])
  await expect(open(keys, { version: '1', key: reading })).rejects.toThrow('that may encrypt and decrypt')
  const uses = ['encrypt', 'decrypt'] as const
  for (const algorithm of [
    { name: 'AES-GCM', length: 128 },
    { name: 'AES-CBC', length: 256 },
  ]) {
    const other = await crypto.subtle.generateKey(algorithm, false, uses)
    await expect(open(keys, { version: '1', key: other })).rejects.toThrow('must be an AES-GCM key of 256 bits')
  }
})

test.each([
  ['none', [], 'a key-encryption key must be configured'],
  ['a short one', [{ version: '1', key: new Uint8Array(31) }], 'has 31 bytes; it must have 32'],
  ['two of one name', [kek('1'), kek('1', 2)], 'version "1" of the key-encryption key is configured twice'],
  ['an empty name', [{ ...kek('1'), version: '' }], 'is 1 to 64 letters'],
  ['a long name', [{ ...kek('1'), version: 'x'.repeat(65) }], 'is 1 to 64 letters'],
  ['a name of two words', [{ ...kek('1'), version: '1 2' }], 'is 1 to 64 letters'],
  ['a name in quotes', [{ ...kek('1'), version: '"1' }], 'is 1 to 64 letters'],
])('key-encryption keys are refused: %s', async (_, keks, text) => {
  await expect(open(memoryWrappedKeys(), ...keks)).rejects.toThrow(text)
})

test('a key-encryption key is read from hex and base64, and nothing else', () => {
  const bytes = Uint8Array.from({ length: 32 }, (_, index) => 255 - index * 3)
  const buffer = Buffer.from(bytes)
  for (const text of [
    buffer.toString('hex'),
    buffer.toString('base64'),
    buffer.toString('base64url'),
    ` ${buffer.toString('hex').toUpperCase()}\n`,
  ])
    expect(parseKek(text)).toEqual(bytes)
  for (const text of [
    '',
    'secret',
    buffer.toString('hex').slice(2),
    `0${buffer.toString('hex')}`,
    `${buffer.toString('hex')}0`,
    Buffer.alloc(31).toString('base64'),
    Buffer.alloc(33).toString('base64'),
  ]) {
    const error = (() => {
      try {
        return parseKek(text)
      } catch (caught) {
        return caught
      }
    })()
    expect(String(error)).toBe('Error: a key-encryption key is 32 bytes in hex or base64')
  }
})

test('whoever has the key-encryption key has the same secrets, one for each purpose', async () => {
  const secret = async (purpose: string, ...keks: KeyEncryptionKey[]) =>
    (await open(memoryWrappedKeys(), ...keks)).shared!.secret!(purpose)
  const first = await secret('seal', kek('1'))
  expect(first).toHaveLength(32)
  expect(await secret('seal', kek('1'))).toEqual(first)
  expect(await secret('seal', kek('1'), kek('2'))).toEqual(first)
  expect(await secret('other', kek('1'))).not.toEqual(first)
  expect(await secret('seal', kek('2'))).not.toEqual(first)
  const key = await crypto.subtle.generateKey({ name: 'AES-GCM', length: 256 }, false, ['encrypt', 'decrypt'])
  expect(await secret('seal', { version: '1', key })).toEqual(await secret('seal', { version: '1', key }))
})

test('the longest name of a key-encryption key is one', async () => {
  const version = 'aZ.9_-'.padEnd(64, 'x')
  const keys = memoryWrappedKeys()
  await (await open(keys, { ...kek('1'), version })).generateKey('one', 'ec-p256')
  expect(keys.rows.get('one')?.kekVersion).toBe(version)
})

afterEach(() => vi.restoreAllMocks())

test('no private key is left in memory but in its signer, whatever is done and whatever fails', async () => {
  const { encrypt, decrypt, importKey } = crypto.subtle
  const seen: Uint8Array[] = []
  const keks: boolean[] = []
  const subtle = vi.spyOn(crypto.subtle, 'encrypt').mockImplementation((algorithm, key, data) => {
    seen.push(data as Uint8Array)
    return encrypt.call(crypto.subtle, algorithm, key, data)
  })
  vi.spyOn(crypto.subtle, 'decrypt').mockImplementation(async (...given) => {
    const opened = await decrypt.apply(crypto.subtle, given)
    seen.push(new Uint8Array(opened))
    return opened
  })
  vi.spyOn(crypto.subtle, 'importKey').mockImplementation(((...given: Parameters<typeof importKey>) => {
    if (given[2] === 'AES-GCM') keks.push(given[3])
    return importKey.apply(crypto.subtle, given)
  }) as typeof importKey)
  const keys = memoryWrappedKeys()
  const wiped = (count: number) => {
    expect(seen).toHaveLength(count)
    for (const bytes of seen.splice(0)) expect(bytes).toEqual(new Uint8Array(bytes.length))
  }
  const manager = await open(keys, kek('1'))
  await manager.generateKey('one', 'ec-p256')
  wiped(1)
  // The one before is opened, and the new one wrapped.
  await manager.generateKey('one', 'ec-p256')
  wiped(2)
  const later = await open(keys, kek('2'), kek('1'))
  await later.getKey('one')
  wiped(1)
  await later.shared!.rewrap(keys)
  wiped(2)
  const options = { trustDomain, keys, keks: [kek('2')] }
  const failing = await databaseKeyManager({ ...options, importKey: () => Promise.reject(new Error('no key')) })
  await expect(failing.getKey('one')).rejects.toThrow('no key')
  wiped(1)
  await expect(failing.generateKey('two', 'ec-p256')).rejects.toThrow('no key')
  wiped(1)
  subtle.mockImplementation(async (_, _key, data) => {
    seen.push(data as Uint8Array)
    throw new Error('no sealing')
  })
  await expect((await open(keys, kek('3'), kek('2'))).shared!.rewrap(keys)).rejects.toThrow('no sealing')
  wiped(2)
  // Nor can the key-encryption keys be taken out again.
  expect(new Set(keks)).toEqual(new Set([false]))
})

test('a key is opened once, and again when another one has its name', async () => {
  const keys = memoryWrappedKeys()
  let opened = 0
  const options = {
    trustDomain,
    keys,
    keks: [kek('1')],
    importKey(pkcs8: Uint8Array) {
      opened += 1
      return importSigner(pkcs8)
    },
  }
  const manager = await databaseKeyManager(options)
  const made = await manager.generateKey('one', 'ec-p256')
  expect(await manager.getKey('one')).toBe(made)
  expect((await manager.getKeys()).get('one')).toBe(made)
  expect(opened).toBe(1)
  const replica = await databaseKeyManager(options)
  expect(await replica.getKey('one')).toBe(await replica.getKey('one'))
  expect(opened).toBe(2)
  await manager.generateKey('one', 'ec-p256')
  expect((await replica.getKey('one'))?.publicKey).toEqual((await manager.getKey('one'))?.publicKey)
  expect(opened).toBe(4)
})

test('it is known whether any key waits to be wrapped anew', async () => {
  const keys = memoryWrappedKeys()
  await (await open(keys, kek('1'))).generateKey('old', 'ec-p256')
  const manager = await open(keys, kek('2'), kek('1'))
  expect(manager.shared!.needsRewrap).toBe(false)
  await manager.generateKey('new', 'ec-p256')
  await manager.getKeys()
  expect(manager.shared!.needsRewrap).toBe(true)
  await manager.shared!.rewrap(keys)
  expect(manager.shared!.needsRewrap).toBe(false)
})

test('who lost the lease writes no key, though they can read them', async () => {
  const keys = memoryWrappedKeys()
  const manager = await open(keys, kek('1'))
  const { publicKey } = await manager.generateKey('one', 'ec-p256')
  const guarded = manager.shared!.through({ ...keys, save: () => Promise.reject(new Error('the lease is lost')) })
  await expect(guarded.generateKey('one', 'ec-p256')).rejects.toThrow('the lease is lost')
  expect((await guarded.getKey('one'))?.publicKey).toEqual(publicKey)
  expect((await manager.getKey('one'))?.publicKey).toEqual(publicKey)
})

test('at the edge a key-encryption key is bytes, a key or text', async () => {
  const bytes = new Uint8Array(32).fill(1)
  const key = await crypto.subtle.importKey('raw', bytes, 'AES-GCM', false, ['encrypt', 'decrypt'])
  expect(
    keyEncryptionKeys([
      { version: '1', key: Buffer.from(bytes).toString('hex') },
      { version: '2', key: bytes },
      { version: '3', key },
    ]),
  ).toEqual([
    { version: '1', key: bytes },
    { version: '2', key: bytes },
    { version: '3', key },
  ])
  expect(() => keyEncryptionKeys([{ version: '1', key: 'secret' }])).toThrow('32 bytes in hex or base64')
})
