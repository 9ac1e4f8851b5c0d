import { execFile, execFileSync, spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { createFileRegistry, type DescService, fromBinary } from '@bufbuild/protobuf'
import { FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt'
import { Code, ConnectError, createClient } from '@connectrpc/connect'
import { createConnectTransport } from '@connectrpc/connect-web'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { freePort } from '../../examples/nested/free-ports.ts'
import type { HttpIdentity } from '../../src/transport/http-signature.ts'
import { Cluster, type ServerFiles, spiffe } from '../support/cluster.ts'
import { mintIdentity, signedFetch } from '../support/signed-fetch.ts'

// Connect clients of others against a real server process.

const run = promisify(execFile)
const ROOT = join(import.meta.dirname, '../..')
const image = execFileSync(join(ROOT, 'node_modules/.bin/buf'), ['build', '-o', '-'], { cwd: join(ROOT, 'proto') })
const types = createFileRegistry(fromBinary(FileDescriptorSetSchema, image))

const cluster = new Cluster()
let url: string
let server: ServerFiles
let admin: HttpIdentity
let downstream: HttpIdentity
let stranger: HttpIdentity

beforeAll(async () => {
  const port = await freePort()
  url = `http://127.0.0.1:${port}`
  server = await cluster.serverFiles('server', {
    server: `admin_ids = ["${spiffe('admin')}"]
  experimental { http { bind_port = "${port}" audiences = ["${url}"] } }`,
  })
  await cluster.startServer(server)
  await cluster.entry(server, 'somebody', 'nested', '-downstream')
  admin = await mintIdentity(cluster, server, 'admin')
  downstream = await mintIdentity(cluster, server, 'nested')
  stranger = await mintIdentity(cluster, server, 'stranger')
}, 30_000)

afterAll(() => cluster.stop(), 30_000)

describe.each([
  ['protobuf', true],
  ['JSON', false],
])('connect-es with %s', (_, useBinaryFormat) => {
  // biome-ignore lint/suspicious/noExplicitAny: services are read from descriptors, so that their methods have no types here.
  function client(service: string, identity?: HttpIdentity, now?: () => number): any {
    const transport = createConnectTransport({
      baseUrl: url,
      useBinaryFormat,
      jsonOptions: { registry: types },
      ...(identity ? { fetch: signedFetch(identity, url, now) } : {}),
    })
    return createClient(types.getService(service) as DescService, transport)
  }
  const ENTRY = 'spire.api.server.entry.v1.Entry'

  test('reads the bundle, as anybody may', async () => {
    const bundle = await client('spire.api.server.bundle.v1.Bundle').getBundle({})
    expect(bundle).toMatchObject({ trustDomain: 'example.org', refreshHint: expect.anything() })
    expect(bundle.x509Authorities[0].asn1).toBeInstanceOf(Uint8Array)
  })

  test('writes and reads entries as an administrator', async () => {
    const entries = client(ENTRY, admin)
    const path = `/made-by-connect-${useBinaryFormat}`
    const created = await entries.batchCreateEntry({
      entries: [
        {
          spiffeId: { trustDomain: 'example.org', path },
          parentId: { trustDomain: 'example.org', path: '/agent' },
          selectors: [{ type: 'unix', value: 'uid:1000' }],
          expiresAt: 4_000_000_000n,
        },
      ],
    })
    expect(created.results[0].status).toMatchObject({ code: 0, message: 'OK' })
    const listed = await entries.listEntries({ filter: { bySpiffeId: { trustDomain: 'example.org', path } } })
    expect(listed.entries).toHaveLength(1)
    expect(listed.entries[0]).toMatchObject({
      id: created.results[0].id ?? created.results[0].entry.id,
      expiresAt: 4_000_000_000n,
    })
  })

  test.each([
    ['a request without signature', undefined, Code.PermissionDenied],
    ['a request of an unknown agent', () => stranger, Code.PermissionDenied],
  ])('gets the error of %s', async (_, identity, code) => {
    const call = client(ENTRY, identity?.()).getAuthorizedEntries({})
    await expect(call).rejects.toMatchObject({ name: 'ConnectError', code })
  })

  test('gets the details of an error', async () => {
    const error = await client(ENTRY, stranger)
      .getAuthorizedEntries({})
      .catch((error: unknown) => ConnectError.from(error))
    const [detail] = error.findDetails(types.getMessage('spire.api.types.PermissionDeniedDetails'))
    // AGENT_NOT_ATTESTED
    expect(detail.reason).toBe(2)
  })

  test('is told the time of the server if its own is wrong', async () => {
    const late = () => Math.floor(Date.now() / 1000) - 3600
    const error = await client(ENTRY, admin, late)
      .listEntries({})
      .catch((error: unknown) => ConnectError.from(error))
    expect(error.code).toBe(Code.Unauthenticated)
    const [detail] = error.findDetails(types.getMessage('turret.http.v1.ClockSkew'))
    expect(Number(detail.serverTime) - late()).toBeGreaterThan(3500)
  })

  test('holds a stream open', async () => {
    const stop = new AbortController()
    const stream = client('turret.changes.v1.Changes', downstream).watch({}, { signal: stop.signal })
    const received: { bundle: boolean }[] = []
    for await (const news of stream) {
      received.push({ bundle: news.bundle })
      break
    }
    stop.abort()
    expect(received).toEqual([{ bundle: true }])
  })

  test('gets the error at the end of a stream', async () => {
    const stream = client('turret.changes.v1.Changes').watch({})
    const reading = (async () => {
      for await (const _ of stream) throw new Error('a message')
    })()
    await expect(reading).rejects.toMatchObject({ code: Code.PermissionDenied })
  })

  test('asks for news', async () => {
    const changes = client('turret.changes.v1.Changes', downstream)
    const first = await changes.poll({})
    expect(first).toMatchObject({ bundle: true, entries: true })
    expect(await changes.poll({ cursor: first.cursor, waitMs: 1 })).toMatchObject({ bundle: false, entries: false })
  })

  test('gives up at its deadline', async () => {
    const changes = client('turret.changes.v1.Changes', downstream)
    const { cursor } = await changes.poll({})
    const call = changes.poll({ cursor, waitMs: 30_000 }, { timeoutMs: 100 })
    await expect(call).rejects.toMatchObject({ code: Code.DeadlineExceeded })
  })
})

// A machine without Go has connect-es and curl as its foreign clients.
test.runIf(spawnSync('go', ['version']).status === 0)(
  'connect-go reads the bundle and gets errors, with protobuf and JSON',
  async () => {
    const client = cluster.path('connectclient')
    const descriptors = cluster.path('descriptors.binpb')
    writeFileSync(descriptors, image)
    await run('go', ['build', '-o', client, '.'], { cwd: join(import.meta.dirname, 'go', 'connectclient') })
    const { stdout } = await run(client, [url, descriptors])
    expect(stdout.trim().split('\n')).toEqual([
      'proto: OK trust_domain=example.org x509_authorities=1 jwt_authorities=1 sequence_number=1',
      'json: OK trust_domain=example.org jwt_authorities=1',
      denied('anonymous', 'spire.api.server.entry.v1.Entry/ListEntries'),
      denied('anonymous json', 'spire.api.server.entry.v1.Entry/ListEntries'),
      'gzip: unimplemented (unimplemented: compressed requests are not supported: supported encodings are "identity") details=0',
      'not served: unimplemented (unimplemented: 404 Not Found) details=0',
      'stream: received 0',
      denied('stream', 'turret.changes.v1.Changes/Watch'),
      'stream json: received 0',
      denied('stream json', 'turret.changes.v1.Changes/Watch'),
    ])
  },
  120_000,
)

function denied(name: string, method: string): string {
  return `${name}: permission_denied (permission_denied: authorization denied for method /${method}) details=0`
}

/** @returns the body, a blank, the status */
async function curl(...args: readonly string[]): Promise<string> {
  const { stdout } = await run('curl', ['-sS', '-w', ' %{http_code}', ...args])
  return stdout
}

test.runIf(spawnSync('curl', ['--version']).status === 0)('curl reads the bundle with nothing but -d', async () => {
  const json = ['-H', 'content-type: application/json']
  const path = `${url}/spire.api.server.bundle.v1.Bundle/GetBundle`
  const answer = await curl(...json, '-d', '{"output_mask":{"sequenceNumber":true}}', path)
  expect(answer).toMatch(/^\{"trustDomain":"example\.org","sequenceNumber":"\d+"\} 200$/)
  expect(await curl(...json, '-d', '{"mask":{}}', path)).toBe(
    '{"code":"invalid_argument","message":"the request is not valid: unknown field \\"mask\\" in spire.api.server.bundle.v1.GetBundleRequest"} 400',
  )
  expect(await curl(...json, '-H', 'content-encoding: gzip', '-d', 'x', path)).toMatch(/"unimplemented".* 501$/)
  expect(await curl('-d', '{}', path)).toBe(' 415')
  expect(await curl(path)).toBe(' 405')
})

test('no token or key of a request is in the log', async () => {
  const signed = signedFetch(admin, url)
  const ask = (path: string, body: string, headers: Record<string, string> = {}) =>
    signed(`${url}/spire.api.server.agent.v1.Agent/${path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body,
    })
  const secret = 'a-token-that-nobody-may-read'
  expect((await ask('CreateJoinToken', `{"ttl":60,"token":"${secret}"}`)).status).toBe(200)
  for (const body of [`{"ttl":60,"tokn":"${secret}"}`, `{"ttl":"${secret}"}`, `{"token":"${secret}`, `["${secret}"]`]) {
    const refused = await ask('CreateJoinToken', body)
    expect(refused.status).toBe(400)
    expect(await refused.text()).not.toContain(secret)
  }
  expect((await ask('CreateJoinToken', `{"ttl":60,"token":"${secret}"}`)).status).not.toBe(200)
  expect(cluster.log('server')).toContain('CreateJoinToken')
  expect(cluster.log('server')).not.toContain(secret)
})
