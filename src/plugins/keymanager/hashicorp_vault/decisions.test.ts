import { createSign, generateKeyPairSync, type KeyObject } from 'node:crypto'
import { expect, test } from 'vitest'
import { type Log, silentLog } from '../../../core/log.ts'
import { type VaultData, VaultError, type VaultSend } from '../../vault/client.ts'
import { type VaultKeysOptions, vaultKeyManager } from './hashicorp_vault.ts'

// What the transit engine answers when it is not itself. That it works at all is in hashicorp_vault.test.ts, on OpenBao.

const uuid = (n: number) => `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`

/** A transit engine in memory that may fail, and whose answers may be changed. */
function engine() {
  const keys = new Map<string, { readonly privateKey: KeyObject; readonly data: VaultData }>()
  const asked: string[] = []
  const bodies: (object | undefined)[] = []
  let made = 0
  const log: Log = { ...silentLog, error: (message) => void transit.errors.push(message) }
  const transit = {
    keys,
    asked,
    bodies,
    refuse: (_request: string): void => {},
    change: (_request: string, answer: VaultData): VaultData => answer,
    errors: [] as string[],
    open: (changes: Partial<VaultKeysOptions> = {}) =>
      vaultKeyManager({ serverId: 'one', vault: send, newUuid: () => uuid(++made), log, ...changes }),
    send: (...request: Parameters<VaultSend>) => send(...request),
    /** Puts a key there under any name. */
    make(name: string, type = 'ecdsa-p256', createdAt = '2026-01-01T00:00:00Z') {
      const { privateKey, publicKey } = type.startsWith('rsa')
        ? generateKeyPairSync('rsa', { modulusLength: 2048 })
        : generateKeyPairSync('ec', { namedCurve: type === 'ecdsa-p384' ? 'P-384' : 'P-256' })
      const public_key = publicKey.export({ type: 'spki', format: 'pem' })
      keys.set(name, {
        privateKey,
        data: { type, latest_version: 1, keys: { 1: { public_key, creation_time: createdAt } } },
      })
    },
  }
  function answer(method: string, path: string, body: object | undefined): VaultData {
    const [, kind, name = '', last] = path.split('/')
    if (method === 'LIST') return { keys: [...keys.keys()] }
    if (method === 'DELETE') {
      keys.delete(name)
      return {}
    }
    if (method === 'POST' && kind === 'keys' && last === undefined) {
      transit.make(name, (body as { type: string }).type)
      return {}
    }
    if (method === 'GET') return keys.get(name)!.data
    if (kind !== 'sign') return {}
    const { input } = body as { input: string }
    const signature = createSign('sha256').update(input).sign(keys.get(name)!.privateKey, 'base64')
    return { signature: `vault:v1:${signature}` }
  }
  const send: VaultSend = async (method, path, body) => {
    const request = `${method} ${path}`
    asked.push(request)
    bodies.push(body)
    transit.refuse(request)
    return transit.change(request, answer(method, path, body))
  }
  return transit
}

const ONE = `one-${uuid(1)}-x509-CA-A`
const versions = (says: object) => ({ latest_version: 1, type: 'ecdsa-p256', keys: { 1: says } })
const LONELY = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n'

test.each<[string, VaultData, string]>([
  ['says no type', { type: undefined }, 'unsupported key type: undefined'],
  ['says another type', { type: 'ed25519' }, 'unsupported key type: ed25519'],
  ['knows no versions', { keys: undefined }, 'expected public key to be present'],
  ['does not say the latest version', { latest_version: undefined }, 'expected public key to be present'],
  ['keeps the public key of the latest version', { latest_version: 2 }, 'expected public key to be present'],
  ['gives a number for a key', versions({ public_key: 7 }), 'expected public key to be present'],
  ['gives a text for a key', versions({ public_key: 'x' }), 'unable to decode PEM key'],
  ['gives a certificate for a key', versions({ public_key: LONELY }), 'unable to decode PEM key'],
])('a key of which the engine %s is not used, and not taken for missing', async (_, says, message) => {
  const transit = engine()
  transit.make(ONE)
  transit.change = (request, answer) => (request.startsWith('GET ') ? { ...answer, ...says } : answer)
  await expect(transit.open().getKey('x509-CA-A')).rejects.toThrow(message)
  await expect(transit.open().getKeys()).rejects.toThrow(message)
  await expect(transit.open().generateKey('x509-CA-A', 'ec-p256')).rejects.toThrow(message)
})

test.each<[string, unknown, string]>([
  ['none', undefined, 'signature is missing'],
  ['a number', 7, 'signature is missing'],
  ['one in a list', ['vault:v1:AAAA'], 'signature is missing'],
  ['one without a version', 'vault:AAAA', 'signature is missing'],
  ['one of another make', 'other:vault:v1:AAAA', 'signature is missing'],
  ['one and more', 'vault:v1:AAAA:x', 'signature is missing'],
  ['one by version 11', 'vault:v11:AAAA', 'transit engine signed with version 11 of the key, not with 1'],
  ['one that is no ECDSA signature', 'vault:v1:AAAA', ''],
])('for a signature the engine gives %s: an error', async (_, signature, message) => {
  const transit = engine()
  const signer = await transit.open().generateKey('x509-CA-A', 'ec-p256')
  expect(await signer.sign(new Uint8Array(1))).toHaveLength(64)
  transit.change = () => ({ signature })
  await expect(signer.sign(new Uint8Array(1))).rejects.toThrow(message)
})

test.each([
  ['ec-p256', 'sha2-256', undefined],
  ['ec-p384', 'sha2-384', undefined],
  ['rsa-2048', 'sha2-256', 'pkcs1v15'],
] as const)('a %s key signs the digest by %s', async (type, hash, signature_algorithm) => {
  const transit = engine()
  const signer = await transit.open().generateKey('x', type)
  await signer.sign(new Uint8Array(1))
  expect(transit.asked.at(-1)).toBe(`POST transit/sign/one-${uuid(1)}-x/${hash}`)
  expect(transit.bodies.at(-1)).toMatchObject({ prehashed: true, key_version: 1, marshaling_algorithm: 'asn1' })
  expect((transit.bodies.at(-1) as { signature_algorithm?: string }).signature_algorithm).toBe(signature_algorithm)
})

test('a key is made such that nobody can take it out of the engine', async () => {
  const transit = engine()
  await transit.open().generateKey('x', 'ec-p256')
  expect(transit.bodies[0]).toEqual({ type: 'ecdsa-p256', exportable: false })
})

test('only what has our name and the form of it is ours', async () => {
  const transit = engine()
  for (const name of [
    `two-${uuid(1)}-a`,
    `one2-${uuid(1)}-b`,
    `xone-${uuid(1)}-c`,
    `one-${uuid(1)}-`,
    `one-${uuid(1)}`,
    `one-${uuid(1)}d`,
    `one-${uuid(1)}_e`,
    `one-x${uuid(1).slice(1)}-f`,
    `one-2-${uuid(1)}-g`,
    'one-h',
  ])
    transit.make(name)
  const manager = transit.open()
  expect(await manager.getKeys()).toEqual(new Map())
  for (const id of 'abcdefgh') expect(await manager.getKey(id)).toBeUndefined()
  transit.make(`one-${uuid(2)}-i`)
  expect([...(await manager.getKeys()).keys()]).toEqual(['i'])
})

test('of several keys with one name the newest counts, in whatever order they come', async () => {
  for (const years of [
    [2024, 2026, 2025],
    [2026, 2025, 2024],
  ]) {
    const transit = engine()
    for (const year of years) transit.make(`one-${uuid(year)}-x`, 'ecdsa-p256', `${year}-01-01T00:00:00Z`)
    const manager = transit.open()
    const signer = (await manager.getKeys()).get('x')!
    await signer.sign(new Uint8Array(1))
    expect(transit.asked.at(-1)).toContain(uuid(2026))
    expect((await transit.open().getKey('x'))?.publicKey).toEqual(signer.publicKey)
  }
})

test('a key that was deleted in the engine is forgotten, and no other with it', async () => {
  const transit = engine()
  const manager = transit.open()
  await manager.generateKey('x', 'ec-p256')
  const y = await manager.generateKey('y', 'ec-p256')
  transit.keys.delete(`one-${uuid(1)}-x`)
  expect(await manager.getKey('x')).toBeUndefined()
  expect(await manager.getKey('y')).toBe(y)
  expect([...(await manager.getKeys()).keys()]).toEqual(['y'])
  transit.keys.clear()
  expect(await manager.getKeys()).toEqual(new Map())
})

test('only an engine that says that there is nothing has no keys', async () => {
  const transit = engine()
  transit.make(ONE)
  const failing = (error: Error) => {
    transit.refuse = () => {
      throw error
    }
  }
  failing(new VaultError(404, 'nothing there'))
  expect(await transit.open().getKeys()).toEqual(new Map())
  for (const error of [new VaultError(403, 'permission denied'), new Error('no answer')]) {
    failing(error)
    await expect(transit.open().getKeys()).rejects.toThrow('transit engine list keys call failed')
    await expect(transit.open().getKey('x509-CA-A')).rejects.toThrow('transit engine list keys call failed')
  }
  transit.refuse = () => {}
  transit.change = () => ({})
  expect(await transit.open().getKeys()).toEqual(new Map())
})

test('a key whose deletion is not allowed, or fails, is deleted later, once', async () => {
  for (const step of [/config$/, /^DELETE/]) {
    const transit = engine()
    const manager = transit.open()
    await manager.generateKey('x', 'ec-p256')
    transit.refuse = (request) => {
      if (step.test(request)) throw new Error('no')
    }
    const { publicKey } = await manager.generateKey('x', 'ec-p256')
    await manager.maintain!(0)
    expect(transit.keys.size).toBe(2)
    expect(new Set(transit.errors)).toEqual(new Set(['It was not possible to delete a key. It is tried again later']))
    transit.refuse = () => {}
    await manager.maintain!(0)
    expect([...transit.keys.keys()]).toEqual([`one-${uuid(2)}-x`])
    const { length } = transit.asked
    await manager.maintain!(0)
    expect(transit.asked).toHaveLength(length)
    expect((await manager.getKey('x'))?.publicKey).toEqual(publicKey)
  }
})

test('a key of ours that is broken is in the way of itself alone', async () => {
  const transit = engine()
  transit.make(`one-${uuid(1)}-x`)
  transit.make(`one-${uuid(2)}-y`, 'ed25519')
  const manager = transit.open()
  expect(await manager.getKey('x')).toBeDefined()
  await expect(manager.getKey('y')).rejects.toThrow('unsupported key type: ed25519')
  await expect(manager.getKeys()).rejects.toThrow('unsupported key type: ed25519')
})

test('no more calls are made at once than may be', async () => {
  const transit = engine()
  let [running, most] = [0, 0]
  const manager = transit.open({
    concurrency: 2,
    async vault(...request) {
      running += 1
      most = Math.max(most, running)
      await new Promise((resolve) => setImmediate(resolve))
      running -= 1
      return transit.send(...request)
    },
  })
  await Promise.all(['a', 'b', 'c', 'd'].map((id) => manager.generateKey(id, 'ec-p256')))
  expect(most).toBe(2)
})
