#!/usr/bin/env node
// A KeyManager for a server, or with plugin_args = ["agent"] for an agent: keys are PEM files in a folder.

import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { requiredText, StatusError, servePlugin, signDigest } from 'turret/plugin'

const GENERATE = [
  undefined,
  () => generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  () => generateKeyPairSync('ec', { namedCurve: 'P-384' }),
  () => generateKeyPairSync('rsa', { modulusLength: 2048 }),
  () => generateKeyPairSync('rsa', { modulusLength: 4096 }),
] as const
type KeyType = 0 | 1 | 2 | 3 | 4

function publicKey(id: string, key: KeyObject) {
  const pkixData = createPublicKey(key).export({ type: 'spki', format: 'der' })
  const { modulusLength, namedCurve } = key.asymmetricKeyDetails ?? {}
  const type: KeyType =
    namedCurve === 'prime256v1' ? 1 : namedCurve === 'secp384r1' ? 2 : modulusLength === 2048 ? 3 : 4
  return { id, type, pkixData, fingerprint: createHash('sha256').update(pkixData).digest('hex') }
}

await servePlugin({
  kind: process.argv[2] === 'agent' ? 'agent/KeyManager' : 'server/KeyManager',

  read: ({ data }) => requiredText(data, 'folder'),

  make(folder) {
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    const fileOf = (id: string): string => join(folder, `${encodeURIComponent(id)}.pem`)
    const ids = readdirSync(folder).filter((file) => file.endsWith('.pem'))
    const keys = new Map(
      ids.map((file) => [decodeURIComponent(file.slice(0, -4)), createPrivateKey(readFileSync(join(folder, file)))]),
    )
    return {
      generateKey({ keyId, keyType }) {
        const made = GENERATE[keyType as KeyType]?.().privateKey
        if (!made || keyId === '') throw new StatusError('INVALID_ARGUMENT', 'key id and type are required')
        writeFileSync(`${fileOf(keyId)}.new`, made.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 })
        renameSync(`${fileOf(keyId)}.new`, fileOf(keyId))
        keys.set(keyId, made)
        return { publicKey: publicKey(keyId, made) }
      },
      getPublicKey({ keyId }) {
        const key = keys.get(keyId)
        return { publicKey: key && publicKey(keyId, key) }
      },
      getPublicKeys: () => ({ publicKeys: [...keys].map(([id, key]) => publicKey(id, key)) }),
      async signData({ keyId, data, ...options }) {
        const key = keys.get(keyId)
        if (!key) throw new StatusError('NOT_FOUND', `no such key "${keyId}"`)
        return { signature: await signDigest(key, data, options), keyFingerprint: publicKey(keyId, key).fingerprint }
      },
    }
  },
})
