import { execFileSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
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
  ['no keys', '{}', 'it has no "keys"'],
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
