import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmdirSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { keyManagerSuite } from '../../../test/contract/keymanager.ts'
import { diskKeyManager } from './disk.ts'
import { memoryKeyManager } from './memory.ts'

const newFile = () => join(mkdtempSync(join(tmpdir(), 'turret-keys-')), 'keys.json')

describe('memory', () => keyManagerSuite(async () => memoryKeyManager()))
describe('disk', () => keyManagerSuite(() => diskKeyManager(newFile())))

test('keys on disk are there after a restart, in the format of SPIRE, for their owner only', async () => {
  const path = newFile()
  const signer = await (await diskKeyManager(path)).generateKey('x509-CA-A', 'ec-p256')
  expect((await (await diskKeyManager(path)).getKey('x509-CA-A'))?.publicKey).toEqual(signer.publicKey)
  expect(statSync(path).mode & 0o777).toBe(0o600)
  expect(readdirSync(join(path, '..'))).toEqual(['keys.json'])
  const text = readFileSync(path, 'utf8')
  expect(text).toMatch(/^\{\n\t"keys": \{\n\t\t"x509-CA-A": "[A-Za-z0-9+/=]+"\n\t\}\n\}$/)
  const pkcs8 = Buffer.from(JSON.parse(text).keys['x509-CA-A'], 'base64')
  expect(execFileSync('openssl', ['pkey', '-inform', 'der', '-noout', '-text'], { input: pkcs8 }).toString()).toContain(
    'prime256v1',
  )
})

test.each([
  ['no JSON', 'top-secret', 'it is not JSON'],
  ['nothing', 'null', 'it has no "keys"'],
  ['no keys', '{}', 'it has no "keys"'],
  ['null for keys', '{"keys":null}', 'it has no "keys"'],
  ['a text for keys', '{"keys":"top-secret"}', 'it has no "keys"'],
  ['a key that is no text', '{"keys":{"JWT-Signer-A":["dG9w"]}}', 'key "JWT-Signer-A": it is not text'],
  ['a key that is none', '{"keys":{"JWT-Signer-A":"dG9wLXNlY3JldA=="}}', 'key "JWT-Signer-A":'],
])('a file with %s is refused without a word of what it holds, and left alone', async (_, text, reason) => {
  const path = newFile()
  writeFileSync(path, text)
  const error = await diskKeyManager(path).catch((caught: Error) => caught)
  expect(error).toBeInstanceOf(Error)
  expect(String(error)).toContain(reason)
  expect(String(error)).not.toContain('top-secret')
  expect(String(error)).not.toContain('dG9w')
  expect(readFileSync(path, 'utf8')).toBe(text)
})

test('a file that cannot be read is not taken for none: all authorities would be made anew', async () => {
  const path = newFile()
  mkdirSync(path)
  await expect(diskKeyManager(path)).rejects.toThrow('unable to read keys file')
})

test('a key that could not be written is not in use, and does not stand in the way of others', async () => {
  const path = newFile()
  const manager = await diskKeyManager(path)
  const { publicKey } = await manager.generateKey('x', 'ec-p256')
  // A folder is in the way of the file that is written beside it.
  mkdirSync(`${path}.tmp`)
  await expect(manager.generateKey('x', 'ec-p256')).rejects.toThrow()
  await expect(manager.generateKey('y', 'ec-p256')).rejects.toThrow()
  expect([...(await manager.getKeys()).keys()]).toEqual(['x'])
  expect((await manager.getKey('x'))?.publicKey).toEqual(publicKey)
  rmdirSync(`${path}.tmp`)
  await manager.generateKey('y', 'ec-p256')
  expect([...(await (await diskKeyManager(path)).getKeys()).keys()]).toEqual(['x', 'y'])
})

test('keys are written in the order of their names', async () => {
  const path = newFile()
  const manager = await diskKeyManager(path)
  for (const id of ['b', 'a', 'c']) await manager.generateKey(id, 'ec-p256')
  expect(Object.keys(JSON.parse(readFileSync(path, 'utf8')).keys)).toEqual(['a', 'b', 'c'])
})
