import { randomBytes } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { afterAll, expect, test } from 'vitest'
import { parseCertificate } from '../../src/core/certificate.ts'
import { hex } from '../../src/core/der.ts'
import { Cluster, eventually, exitCode, type ServerFiles } from '../support/cluster.ts'

const cluster = new Cluster()
afterAll(() => cluster.stop(), 30_000)

interface BundleJson {
  readonly x509_authorities: readonly { readonly asn1: string }[]
  readonly jwt_authorities: readonly { readonly key_id: string; readonly expires_at: string }[]
}

/** Two servers on one database, with keys in it. */
async function replicas(settings: { readonly server?: string } = {}) {
  const kekFile = cluster.path('kek')
  writeFileSync(kekFile, randomBytes(32).toString('base64'), { mode: 0o600 })
  const options = {
    ...settings,
    keyManager: `KeyManager "database" { plugin_data { kek_file = "${kekFile}" } }`,
  }
  const files = [await cluster.serverFiles('one', options), await cluster.serverFiles('two', options)] as const
  const database = cluster.path('shared.sqlite3')
  for (const { config, data } of files) {
    const text = readFileSync(config, 'utf8').replace(`${data}/datastore.sqlite3`, database)
    writeFileSync(config, text)
  }
  return { files, kekFile }
}

async function bundle(server: ServerFiles) {
  const found: BundleJson = JSON.parse(await cluster.must(server, 'bundle', 'show', '-output', 'json'))
  const now = Date.now() / 1000
  const roots = found.x509_authorities.map(({ asn1 }) => parseCertificate(new Uint8Array(Buffer.from(asn1, 'base64'))))
  return {
    roots: roots.filter(({ notAfter }) => notAfter >= now).map(({ subjectKeyId }) => hex(subjectKeyId!)),
    keys: found.jwt_authorities.filter(({ expires_at }) => Number(expires_at) >= now).map(({ key_id }) => key_id),
  }
}

/** The JWT key that a server signs with. */
async function signingKey(server: ServerFiles): Promise<string> {
  const args = ['jwt', 'mint', '-spiffeID', 'spiffe://example.org/w', '-audience', 'a']
  const [header] = (await cluster.must(server, ...args)).split('.')
  return JSON.parse(Buffer.from(header!, 'base64url').toString()).kid
}

/** The key that both sign with; around a change they differ for a moment. */
function sameKey(one: ServerFiles, two: ServerFiles): Promise<string> {
  return eventually(async () => {
    const [a, b] = [await signingKey(one), await signingKey(two)]
    if (a !== b) throw new Error(`they sign with ${a} and ${b}`)
    return a
  })
}

test('servers that share keys start together, rotate together, and survive each other', async () => {
  const {
    files: [one, two],
    kekFile,
  } = await replicas({ server: 'ca_ttl = "20s"' })
  const [first] = await Promise.all([cluster.startServer(one), cluster.startServer(two)])
  // One of each; where the start took long, its successor too.
  const begin = await bundle(one)
  expect(begin.roots.length).toBeLessThanOrEqual(2)
  expect(begin.keys.length).toBeLessThanOrEqual(2)
  const before = await sameKey(one, two)

  // The successors: made by one of the two, in use at both.
  await eventually(async () => {
    const { roots, keys } = await bundle(two)
    expect(roots.length).toBeLessThanOrEqual(3)
    expect(keys.length).toBeLessThanOrEqual(3)
    const now = [await signingKey(one), await signingKey(two)]
    if (now[0] === before || now[1] !== now[0]) throw new Error(`no change yet: ${now}`)
  }, 60_000)

  // One dies without a word: the other goes on by itself.
  first.kill('SIGKILL')
  await exitCode(first)
  const alone = await signingKey(two)
  await eventually(async () => {
    if ((await signingKey(two)) === alone) throw new Error('no change yet')
  }, 60_000)
  const { roots, keys } = await bundle(two)
  expect(roots.length).toBeLessThanOrEqual(3)
  expect(keys.length).toBeLessThanOrEqual(3)

  // Without the right key-encryption key it does not come back, says so, and harms nobody.
  const kek = readFileSync(kekFile, 'utf8')
  writeFileSync(kekFile, randomBytes(32).toString('base64'))
  const { code, stdout } = await cluster.processes.run('turret-server', ['run', '-config', one.config])
  expect(code).toBe(1)
  expect(stdout).toContain('does not open with version \\"1\\" of the key-encryption key')
  expect(stdout).not.toContain(kek)
  writeFileSync(kekFile, kek)
  await cluster.startServer(one)
  await sameKey(one, two)
}, 150_000)
