import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { SERVER } from '../agent/server-methods.ts'
import { parseBundleDocument } from '../src/core/bundle-document.ts'
import { parseCertificate } from '../src/core/certificate.ts'
import { parseCsr } from '../src/core/csr.ts'
import type { Log, LogFields } from '../src/core/log.ts'
import type { UpstreamAuthority } from '../src/core/plugin.ts'
import { parsePublicKey } from '../src/core/public-key.ts'
import { trustDomainId } from '../src/core/spiffe-id.ts'
import { issuerOf, randomSerial, signCertificate } from '../src/core/x509-svid.ts'
import { generateSigner } from '../src/plugins/signer.ts'
import { selfSignCa } from '../src/server/ca.ts'
import { openLibsqlStore } from '../src/store/libsql.ts'
import { edgeSuite } from '../test/contract/edge.ts'
import {
  ADMIN_ID,
  attestByCertificate,
  attestByToken,
  channelTo,
  KEK,
  NODE_CA_PEM,
  type Place,
  seed,
  TRUST_DOMAIN,
} from '../test/support/edge.ts'
import { type Turret, type TurretOptions, turret, x509pop } from './turret.ts'

const lines: string[] = []
const remember = (level: string) => (message: string, fields?: LogFields) =>
  void lines.push(JSON.stringify({ level, message, ...fields }))
const log: Log = {
  debug: remember('debug'),
  info: remember('info'),
  warn: remember('warning'),
  error: remember('error'),
  child: () => log,
  debugEnabled: true,
}

const options: TurretOptions = {
  trustDomain: 'example.org',
  store: (storeLog) => openLibsqlStore({ log: storeLog }),
  keys: [{ version: '1', key: KEK }],
  audiences: ['http://127.0.0.1'],
  issuer: 'https://id.example.org',
  adminIds: [ADMIN_ID],
  nodeAttestors: [x509pop({ caBundle: NODE_CA_PEM })],
  rateLimits: false,
  log,
}

const own = turret(options)
const ownSeed = await seed(own)
describe('at the root', () => {
  edgeSuite(() => ({
    ...ownSeed,
    place: { url: 'http://127.0.0.1', roots: ownSeed.roots, fetch: own.fetch as typeof fetch },
    logged: () => lines.join('\n'),
  }))
})

test('what Cloudflare says of a certificate counts where the platform is a front, and only there', async () => {
  const tlsClientAuth = {
    certPresented: '1',
    certVerified: 'SUCCESS',
    certRevoked: '0',
    certRFC9440: `:${Buffer.from(ownSeed.admin.chain[0]!).toString('base64')}:`,
  }
  const url = 'http://127.0.0.1/spire.api.server.entry.v1.Entry/CountEntries'
  const request = () => {
    const init = { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{}' }
    return Object.assign(new Request(url, init), { cf: { tlsClientAuth } })
  }
  expect((await own.fetch(request())).status).toBe(403)
  const { deps } = await own.server()
  const store = async () => ({ ...deps.store, close: async () => {} })
  const fronted = turret({ ...options, store, fronts: [{ name: 'worker', carrier: 'cloudflare' }] })
  expect((await fronted.fetch(request())).status).toBe(200)
})

test('what signs answers for anybody has an EC key, also where the CA has RSA', async () => {
  const made = turret({ ...options, caKeyType: 'rsa-2048', jwtKeyType: 'ec-p256' })
  const { identity, deps } = await made.server()
  expect(parsePublicKey(identity().key.publicKey).kind).toBe('ec')
  await deps.store.close()
})

test('in an app of somebody else, below a path', async () => {
  process.env.TURRET_DATABASE = ':memory:'
  process.env.TURRET_KEK = KEK
  const { app, identity } = await import('../examples/hono/app.ts')
  const { tokens, roots } = await seed(identity)
  const place: Place = { url: 'http://localhost:3000/identity', roots, fetch: app.fetch as typeof fetch }
  expect(await (await app.request('/')).text()).toBe('hello')
  const { id } = await attestByToken(place, tokens[0]!)
  expect(id).toBe(`spiffe://example.org/spire/agent/join_token/${tokens[0]}`)
  expect(await (await app.request('/identity/keys')).json()).toHaveProperty('keys')
  expect((await app.request('/keys')).status).toBe(404)
  expect((await app.request('/identitykeys')).status).toBe(404)
  await (await identity.server()).deps.store.close()
})

describe('over time', () => {
  const DAY = 24 * 3600
  const folder = mkdtempSync(join(tmpdir(), 'turret-edge-'))
  afterAll(() => rmSync(folder, { recursive: true, force: true }))
  let files = 0

  /** Isolates on one database, at one time that is turned by hand. */
  function shared(more: Partial<TurretOptions> = {}) {
    files += 1
    const path = join(folder, `${files}.sqlite3`)
    const clock = { ms: Date.now(), nowMs: () => clock.ms }
    const errors: string[] = []
    const told = {
      ...log,
      error: (message: string, fields?: LogFields) => void errors.push(`${message} ${fields?.error}`),
    }
    told.child = () => told
    const isolate = (own: Partial<TurretOptions> = {}) =>
      turret({
        ...options,
        store: (storeLog) => openLibsqlStore({ path, log: storeLog, clock }),
        clock,
        log: told,
        ...more,
        ...own,
      })
    return { clock, errors, isolate }
  }

  const bundleOf = async (isolate: Turret) =>
    parseBundleDocument(TRUST_DOMAIN, await (await isolate.fetch(new Request('http://127.0.0.1/'))).text())
  const placeOf = (isolate: Turret, roots: Place['roots'], clock: Place['clock']): Place => ({
    url: 'http://127.0.0.1',
    roots,
    fetch: isolate.fetch as typeof fetch,
    ...(clock ? { clock } : {}),
  })

  test('isolates share authorities and seals, and a restart keeps them', async () => {
    const { clock, isolate } = shared()
    const [one, two] = [isolate(), isolate()]
    const [first, second] = await Promise.all([one, two].map(bundleOf))
    expect(first!.x509Authorities).toHaveLength(1)
    expect(second!.x509Authorities).toEqual(first!.x509Authorities)
    const { roots } = await seed(one)
    let turn = 0
    const inTurns = (request: Request) => {
      turn += 1
      return [one, two][turn % 2]!.fetch(request)
    }
    const agent = await attestByCertificate({ ...placeOf(one, roots, clock), fetch: inTurns as typeof fetch }, 'node-1')
    expect(turn).toBeGreaterThanOrEqual(2)
    const third = placeOf(isolate(), roots, clock)
    expect(
      await channelTo(third, agent.identity).unary(SERVER.getAuthorizedEntries, { outputMask: undefined }),
    ).toEqual({
      entries: [],
    })
    expect((await bundleOf(isolate())).x509Authorities).toEqual(first!.x509Authorities)
  })

  test('what one isolate writes another one answers with after two seconds', async () => {
    const { clock, isolate } = shared()
    const [one, two] = [isolate(), isolate()]
    await Promise.all([one, two].map(bundleOf))
    const { deps } = await one.server()
    const key = { keyId: 'below', publicKey: (await generateSigner('ec-p256')).publicKey, expiresAt: 0, tainted: false }
    await deps.store.bundles.append({ trustDomain: TRUST_DOMAIN, jwtAuthorities: [key] })
    expect((await bundleOf(one)).jwtAuthorities.map(({ keyId }) => keyId)).toContain('below')
    clock.ms += 2_000
    expect((await bundleOf(two)).jwtAuthorities.map(({ keyId }) => keyId)).toContain('below')
  })

  test('requests rotate what no scheduler does', async () => {
    const { clock, isolate } = shared()
    const one = isolate()
    const { roots } = await seed(one)
    const [root] = (await bundleOf(one)).x509Authorities
    // The request that comes late starts the work; it is done by the next one.
    const maintained = async () => {
      const work: Promise<unknown>[] = []
      await one.fetch(new Request('http://127.0.0.1/'), { waitUntil: (one) => void work.push(one) })
      await Promise.all(work)
    }
    clock.ms += (DAY / 2 + 3600) * 1000
    await maintained()
    const prepared = await bundleOf(one)
    expect(prepared.x509Authorities).toHaveLength(2)
    clock.ms += (DAY / 3) * 1000
    await maintained()
    const { deps } = await one.server()
    const signer = await generateSigner('ec-p256')
    const { chain } = await deps.ca.signWorkloadX509({ id: ADMIN_ID, spki: signer.publicKey, ttlSeconds: 60 })
    const next = prepared.x509Authorities.map(({ der }) => parseCertificate(der)).at(-1)!
    expect(parseCertificate(chain[0]!).issuer).toEqual(next.subject)
    expect(root!.der).toEqual(roots[0]!.der)
  })

  test('a server that nobody called for days answers, signed with what is good now', async () => {
    const { clock, isolate } = shared()
    const one = isolate()
    await seed(one)
    clock.ms += 5 * DAY * 1000
    await one.fetch(new Request('http://127.0.0.1/'))
    const { tokens, roots } = await seed(one)
    expect((await attestByToken(placeOf(one, roots, clock), tokens[0]!)).id).toContain('/join_token/')
  })

  test('what the upstream trusts by now is taken over with the rest of the work', async () => {
    const now = Math.floor(Date.now() / 1000)
    const uri = trustDomainId(TRUST_DOMAIN)
    const random = (bytes: Uint8Array) => crypto.getRandomValues(bytes as Uint8Array<ArrayBuffer>)
    const makeRoot = async () =>
      selfSignCa({
        trustDomain: TRUST_DOMAIN,
        signer: await generateSigner('ec-p256'),
        subject: { organization: ['above'] },
        notAfter: now + DAY,
        now,
        random,
      })
    const [root, later] = [await makeRoot(), await makeRoot()]
    const roots = [root.certificate]
    let held = 0
    const upstream: UpstreamAuthority = {
      name: 'test',
      async mintX509Ca(csr) {
        const { spki, subject } = parseCsr(csr)
        const { certificate, signer } = root
        const profile = {
          kind: 'ca',
          serial: randomSerial(random),
          subject,
          spki,
          notBefore: now,
          notAfter: now + DAY,
          uri,
        } as const
        const der = await signCertificate(profile, issuerOf(signer, certificate.subject, certificate.subjectKeyId))
        return { caChain: [der], upstreamRoots: [{ der: certificate.der, tainted: false }] }
      },
      async *follow(signal) {
        held += 1
        try {
          yield { x509Authorities: roots.map(({ der }) => ({ der, tainted: false })), jwtAuthorities: [] }
          await new Promise((end) => signal.addEventListener('abort', end))
        } finally {
          held -= 1
        }
      },
    }
    const { clock, isolate } = shared({ upstream: () => upstream })
    const one = isolate()
    expect((await bundleOf(one)).x509Authorities.map(({ der }) => der)).toEqual([root.certificate.der])
    roots.push(later.certificate)
    clock.ms += 6_000
    await one.maintain()
    expect((await bundleOf(one)).x509Authorities.map(({ der }) => der)).toEqual([
      root.certificate.der,
      later.certificate.der,
    ])
    expect(held).toBe(0)
  })

  test('with another key-encryption key nothing is answered and nothing changed', async () => {
    const { errors, isolate, clock } = shared()
    const before = await bundleOf(isolate())
    const wrong = isolate({ keys: [{ version: '1', key: KEK.replaceAll('0', 'f') }] })
    const response = await wrong.fetch(new Request('http://127.0.0.1/'))
    expect(response.status).toBe(503)
    expect(await response.json()).toEqual({ code: 'unavailable', message: 'the server cannot start; its log says why' })
    expect(errors.join()).toMatch(/does not open with version "1" of the key-encryption key/)
    const lost = isolate({ keys: [{ version: '2', key: KEK }] })
    expect((await lost.fetch(new Request('http://127.0.0.1/'))).status).toBe(503)
    expect(errors.join()).toMatch(/wrapped with version "1" of the key-encryption key, which is not configured/)
    await wrong.maintain()
    expect(errors.join()).not.toContain(KEK)
    clock.ms += 5_000
    expect(await bundleOf(isolate())).toEqual(before)
  })

  test('a database that comes back is used again', async () => {
    let fails = true
    const { clock, isolate } = shared()
    const path = join(folder, 'back.sqlite3')
    const one = isolate({
      store: async (storeLog) => {
        if (fails) throw new Error('the database is away')
        return openLibsqlStore({ path, log: storeLog, clock })
      },
    })
    const status = async () => (await one.fetch(new Request('http://127.0.0.1/ready'))).status
    expect(await status()).toBe(503)
    fails = false
    expect(await status()).toBe(503)
    clock.ms += 2_000
    expect(await status()).toBe(200)
  })
})

test.each<[string, Partial<TurretOptions>, string]>([
  ['no audience', { audiences: [] }, 'audiences must name'],
  ['an issuer with a slash', { issuer: 'https://a.org/' }, 'issuer must be'],
  ['a path without a slash', { basePath: 'identity' }, 'basePath must be'],
  ['a front that anybody can be', { fronts: [{ name: 'lb', carrier: 'rfc9440' }] }, 'neither a secret nor addresses'],
  ['a lifetime of nothing', { caTtlSeconds: 0 }, 'caTtlSeconds must be'],
  ['a text instead of audiences', { audiences: 'https://id.example.org' as never }, 'audiences must name'],
  [
    'a text instead of the values of a claim',
    {
      oidcAdmins: [{ issuer: 'https://a.org', audience: 'x', claims: { email: 'root@example.org' as never } }],
    },
    'each with a list of values',
  ],
  ['a trust domain that is none', { trustDomain: 'Example.org' }, 'trust domain'],
])('%s is refused at once', (_, wrong, message) => {
  expect(() => turret({ ...options, ...wrong })).toThrow(message)
})
