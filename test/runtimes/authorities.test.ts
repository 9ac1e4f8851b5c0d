import { verify } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { unstable_startWorker } from 'wrangler'
import { parseCertificate } from '../../src/core/certificate.ts'
import { validateJwtSvid } from '../../src/core/jwt-svid.ts'
import { KEY_TYPES, type KeyType } from '../../src/core/key-type.ts'
import { verifyX509Svid } from '../../src/core/path-validation.ts'
import { parseTrustDomainName } from '../../src/core/trust-domain.ts'
import { validateWitSvid } from '../../src/core/wit-svid.ts'
import { databaseKeyManager, parseKek } from '../../src/plugins/keymanager/database/database.ts'
import { importSigner, nodeVerifier } from '../../src/plugins/signer.ts'
import { memoryWrappedKeys } from '../support/wrapped-keys.ts'

/** Shared keys and authorities inside workerd, on its D1; what comes out is judged here with node:crypto. */
const KEK = '00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff'
const DAY = 86_400
const START = 1_800_000_000
const trustDomain = parseTrustDomainName('example.org')
const folder = mkdtempSync(join(tmpdir(), 'turret-authorities-'))
let worker: Awaited<ReturnType<typeof unstable_startWorker>>
let url: URL

beforeAll(async () => {
  const config = join(folder, 'wrangler.json')
  writeFileSync(
    config,
    JSON.stringify({
      name: 'authorities',
      main: resolve(import.meta.dirname, 'authorities-worker.ts'),
      compatibility_date: '2026-11-01',
      vars: { KEK },
      d1_databases: [{ binding: 'DB', database_name: 'd', database_id: 'd' }],
    }),
  )
  worker = await unstable_startWorker({
    config,
    dev: {
      server: { hostname: '127.0.0.1', port: 0 },
      inspector: false,
      logLevel: 'error',
      watch: false,
      persist: false,
    },
  })
  url = await worker.url
}, 60_000)

afterAll(async () => {
  await worker?.dispose()
  rmSync(folder, { recursive: true, force: true })
})

const bytes = (text: string) => new Uint8Array(Buffer.from(text, 'base64'))

async function ask<T>(path: string): Promise<T> {
  const response = await fetch(new URL(path, url))
  const text = await response.text()
  if (!response.ok) throw new Error(text)
  return JSON.parse(text) as T
}

// RSA of 4096 bits takes seconds to make and says nothing that 2048 does not.
test.each(['ec-p256', 'ec-p384', 'rsa-2048'] as const satisfies KeyType[])(
  'a %s key that workerd made and wrapped opens on Node, and signs alike',
  async (keyType) => {
    interface Answer {
      readonly publicKey: string
      readonly signature: string
      readonly wrapped: string
      readonly exportable: boolean
    }
    const { publicKey, signature, wrapped, exportable } = await ask<Answer>(`/key?type=${keyType}&now=${START}`)
    expect(exportable).toBe(false)
    const data = Buffer.from('what is signed')
    const hash = KEY_TYPES[keyType].hash.replace('SHA-', 'sha')
    const key = {
      key: Buffer.from(publicKey, 'base64'),
      format: 'der',
      type: 'spki',
      dsaEncoding: 'ieee-p1363',
    } as const
    expect(verify(hash, data, key, bytes(signature))).toBe(true)
    const keys = memoryWrappedKeys()
    await keys.save({
      id: `test-${keyType}`,
      keyType,
      publicKey: bytes(publicKey),
      wrapped: bytes(wrapped),
      kekVersion: '1',
    })
    const keks = [{ version: '1', key: parseKek(KEK) }]
    const importKey = (pkcs8: Uint8Array) => importSigner(pkcs8)
    const signer = await (await databaseKeyManager({ trustDomain, keys, keks, importKey })).getKey(`test-${keyType}`)
    expect(verify(hash, data, key, await signer!.sign(data))).toBe(true)
  },
)

interface Authorities {
  readonly leaf: string
  readonly jwt: string
  readonly wit: string
  readonly roots: readonly string[]
  readonly jwtKeys: readonly { keyId: string; publicKey: string; expiresAt: number; tainted: boolean }[]
  readonly witKeys: Authorities['jwtKeys']
}

/** Looks at everything that an isolate signed. @returns the key id of the root that signed, and how many of each kind there are */
async function judged(answer: Authorities, at: number) {
  const roots = answer.roots.map((der) => parseCertificate(bytes(der)))
  const chain = [bytes(answer.leaf)]
  await verifyX509Svid({ chain, rootsOf: () => roots, at, verify: nodeVerifier() })
  const keys = (list: Authorities['jwtKeys']) => () => list.map((key) => ({ ...key, publicKey: bytes(key.publicKey) }))
  const common = { at, verify: nodeVerifier() }
  await validateJwtSvid({ token: answer.jwt, audience: ['a'], authoritiesOf: keys(answer.jwtKeys), ...common })
  await validateWitSvid({ token: answer.wit, authoritiesOf: keys(answer.witKeys), ...common })
  return {
    signer: Buffer.from(parseCertificate(chain[0]!).authorityKeyId!).toString('hex'),
    counts: [roots.length, answer.jwtKeys.length, answer.witKeys.length],
  }
}

test('isolates that start, prepare and change over at once agree on one authority of each kind', async () => {
  const atOnce = async (now: number) => {
    const answers = await Promise.all([1, 2, 3].map(() => ask<Authorities>(`/?now=${now}`)))
    return Promise.all(answers.map((answer) => judged(answer, now)))
  }
  const first = await atOnce(START)
  expect(new Set(first.map(({ signer }) => signer)).size).toBe(1)
  expect(first.map(({ counts }) => counts)).toContainEqual([1, 1, 1])
  await atOnce(START + DAY / 2 + 1)
  const [prepared] = await atOnce(START + DAY / 2 + 40)
  expect(prepared).toEqual({ signer: first[0]!.signer, counts: [2, 2, 2] })
  await atOnce(START + (DAY * 5) / 6 + 1)
  const changed = await atOnce(START + (DAY * 5) / 6 + 40)
  expect(new Set(changed.map(({ signer }) => signer)).size).toBe(1)
  expect(changed[0]!.signer).not.toBe(first[0]!.signer)
  expect(changed[0]!.counts).toEqual([2, 2, 2])
}, 30_000)
