import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test, vi } from 'vitest'
import type { Bundle, JwtAuthority } from '../core/bundle.ts'
import { nameText, parseCertificate } from '../core/certificate.ts'
import { hex } from '../core/der.ts'
import { StatusError } from '../core/error.ts'
import { validateJwtSvid } from '../core/jwt-svid.ts'
import { silentLog } from '../core/log.ts'
import { verifyX509Svid } from '../core/path-validation.ts'
import type { KeyManager, UpstreamAuthority } from '../core/plugin.ts'
import { parseSpiffeId } from '../core/spiffe-id.ts'
import { parseTrustDomainName } from '../core/trust-domain.ts'
import { parseWitKey, validateWitSvid, witKeyOf } from '../core/wit-svid.ts'
import { diskKeyManager } from '../plugins/keymanager/disk.ts'
import { memoryKeyManager } from '../plugins/keymanager/memory.ts'
import { generateSigner, nodeVerifier } from '../plugins/signer.ts'
import { openLibsqlStore } from '../store/libsql.ts'
import { Ca } from './ca.ts'
import { CaManager } from './ca-manager.ts'
import { pruneJournals } from './journal.ts'
import { pruneBundle } from './pruning.ts'

const trustDomain = parseTrustDomainName('example.org')
const DAY = 86400
const START = 1_800_000_000
const verify = nodeVerifier()
const random = (bytes: Uint8Array) => crypto.getRandomValues(bytes as Uint8Array<ArrayBuffer>)

async function server(
  changes: {
    upstream?: UpstreamAuthority
    keyManager?: KeyManager
    store?: Awaited<ReturnType<typeof openLibsqlStore>>
    disableJwtSvids?: boolean
    witSvids?: boolean
    at?: number
  } = {},
) {
  const time = { now: changes.at ?? START }
  const clock = { nowMs: () => time.now * 1000 }
  const store = changes.store ?? (await openLibsqlStore({ log: silentLog, clock }))
  const keyManager = changes.keyManager ?? memoryKeyManager()
  const ca = new Ca({
    trustDomain,
    x509SvidTtlSeconds: 3600,
    jwtSvidTtlSeconds: 300,
    agentTtlSeconds: 3600,
    caTtlSeconds: DAY,
    clock,
    random,
  })
  const tainted: string[] = []
  const options = {
    trustDomain,
    caTtlSeconds: DAY,
    caKeyType: 'ec-p256',
    jwtKeyType: 'ec-p256',
    ...(changes.witSvids ? { witKeyType: 'ec-p384' as const } : {}),
    caSubject: { country: ['US'], organization: ['SPIFFE'] },
    disableJwtSvids: changes.disableJwtSvids ?? false,
  } as const
  const deps = {
    store,
    keyManager,
    ...(changes.upstream ? { upstream: changes.upstream } : {}),
    ca,
    verify,
    clock,
    random,
    log: silentLog,
    onTainted: (ids: readonly string[]) => tainted.push(...ids),
  }
  const manager = await CaManager.load(options, deps)
  const bundle = async () => (await store.bundles.get(trustDomain))!
  return { time, store, keyManager, ca, manager, bundle, tainted, reload: () => CaManager.load(options, deps) }
}

const ids = (manager: CaManager) => ({
  x509: [manager.x509Slots.current.authorityId, manager.x509Slots.next.authorityId],
  jwt: [manager.jwtSlots.current.authorityId, manager.jwtSlots.next.authorityId],
})

test('the first rotation makes an authority of each kind, trusted before it signs', async () => {
  const { manager, bundle, ca } = await server()
  await expect(ca.signServerX509((await generateSigner('ec-p256')).publicKey)).rejects.toThrow(
    'X509 CA is not available for signing',
  )
  await manager.rotate()
  const { current, next } = manager.x509Slots
  expect(current).toMatchObject({ letter: 'A', status: 'active', issuedAt: START, notAfter: START + DAY })
  expect(next.status).toBe('empty')
  const certificate = parseCertificate((await bundle()).x509Authorities[0]!.der)
  expect(hex(certificate.subjectKeyId!)).toBe(current.authorityId)
  expect(certificate.authorityKeyId).toBeUndefined()
  expect(nameText(certificate.subject)).toMatch(/^SERIALNUMBER=\d+,O=SPIFFE,C=US$/)
  expect((await bundle()).jwtAuthorities[0]).toMatchObject({
    keyId: manager.jwtSlots.current.authorityId,
    expiresAt: START + DAY,
  })
  expect(manager.jwtSlots.current.authorityId).toMatch(/^[a-zA-Z0-9]{32}$/)
})

test('successors are prepared after half of the life and sign after five sixths, not a second before', async () => {
  const { manager, time, bundle, ca } = await server()
  await manager.rotate()
  const first = ids(manager)
  time.now = START + DAY / 2
  await manager.rotate()
  expect(manager.x509Slots.next.status).toBe('empty')
  time.now += 1
  await manager.rotate()
  expect(manager.x509Slots.next).toMatchObject({ letter: 'B', status: 'prepared' })
  expect((await bundle()).x509Authorities).toHaveLength(2)
  expect((await bundle()).jwtAuthorities).toHaveLength(2)
  const prepared = ids(manager)
  expect(prepared.x509[0]).toBe(first.x509[0])
  time.now = START + (DAY * 5) / 6
  await manager.rotate()
  expect(ids(manager)).toEqual(prepared)
  time.now += 1
  await manager.rotate()
  expect(ids(manager)).toEqual({ x509: [...prepared.x509].reverse(), jwt: [...prepared.jwt].reverse() })
  expect(manager.x509Slots.next.status).toBe('old')
  const { chain } = await ca.signServerX509((await generateSigner('ec-p256')).publicKey)
  expect(hex(parseCertificate(chain[0]!).authorityKeyId!)).toBe(prepared.x509[1])
  // The next turn uses the letter that is free again.
  time.now += DAY / 2
  await manager.rotate()
  expect(manager.x509Slots.next).toMatchObject({ letter: 'A', status: 'prepared' })
})

test('calling it late or often changes nothing', async () => {
  const { manager, time } = await server()
  await manager.rotate()
  const before = ids(manager)
  await Promise.all([manager.rotate(), manager.rotate(), manager.rotate()])
  expect(ids(manager)).toEqual(before)
  time.now += DAY * 3
  await manager.rotate()
  expect(manager.x509Slots.current.notAfter).toBeGreaterThan(time.now)
})

test('who slept beyond the end of the successor too does not activate that', async () => {
  const { manager, time, ca } = await server()
  await manager.rotate()
  time.now += DAY / 2 + 1
  await manager.rotate()
  const prepared = manager.x509Slots.next.authorityId
  time.now += 2 * DAY
  await manager.rotate()
  expect(manager.x509Slots.current.authorityId).not.toBe(prepared)
  expect(ca.x509!.certificate.notAfter).toBe(time.now + DAY)
  expect(manager.jwtSlots.current.notAfter).toBe(time.now + DAY)
})

test('a restart goes on with the same authorities, prepared ones too', async () => {
  const path = join(mkdtempSync(join(tmpdir(), 'turret-ca-')), 'keys.json')
  const first = await server({ keyManager: await diskKeyManager(path) })
  await first.manager.rotate()
  first.time.now += DAY / 2 + 1
  await first.manager.rotate()
  const second = await server({ keyManager: await diskKeyManager(path), store: first.store, at: first.time.now })
  expect(ids(second.manager)).toEqual(ids(first.manager))
  expect(second.manager.x509Slots.next.status).toBe('prepared')
  await second.manager.rotate()
  expect(ids(second.manager)).toEqual(ids(first.manager))
  expect((await second.bundle()).x509Authorities).toHaveLength(2)
  const { token } = await second.ca.signJwt({
    id: parseSpiffeId('spiffe://example.org/w'),
    audience: ['a'],
    ttlSeconds: 0,
  })
  expect(token.split('.')).toHaveLength(3)
})

test('a server that lost its keys starts anew and leaves the old roots in the bundle', async () => {
  const first = await server()
  await first.manager.rotate()
  const second = await server({ store: first.store })
  expect(second.manager.x509Slots.current.status).toBe('empty')
  await second.manager.rotate()
  expect((await second.bundle()).x509Authorities).toHaveLength(2)
  expect(await second.store.journals.list()).toHaveLength(2)
})

test('authorities that ended are not taken up again', async () => {
  const first = await server()
  await first.manager.rotate()
  const later = await server({ store: first.store, keyManager: first.keyManager, at: START + DAY + 1 })
  expect(later.manager.x509Slots.current.status).toBe('empty')
})

test('a journal that cannot be read stops the start with a clear error', async () => {
  const { store, manager, reload } = await server()
  await manager.rotate()
  const [row] = await store.journals.list()
  await store.journals.save({ ...row!, data: new Uint8Array([0xff, 0xff]) })
  await expect(reload()).rejects.toThrow('unable to decode the CA journal')
})

test('without JWT-SVIDs no JWT key is made', async () => {
  const { manager, bundle, ca } = await server({ disableJwtSvids: true })
  await manager.rotate()
  expect((await bundle()).jwtAuthorities).toEqual([])
  await expect(
    ca.signJwt({ id: parseSpiffeId('spiffe://example.org/w'), audience: ['a'], ttlSeconds: 0 }),
  ).rejects.toThrow('JWT key is not available for signing')
})

const witOf = (ca: Ca) =>
  generateSigner('ec-p256').then(({ publicKey }) =>
    ca.signWit({
      id: parseSpiffeId('spiffe://example.org/w'),
      jwk: witKeyOf(parseWitKey(publicKey), 'ES256'),
      ttlSeconds: 0,
    }),
  )

test('without the feature there is no WIT key', async () => {
  const { manager, bundle, ca } = await server()
  await manager.rotate()
  expect((await bundle()).witAuthorities).toEqual([])
  await expect(witOf(ca)).rejects.toThrow('WIT key is not available for signing')
})

test('WIT keys are made, trusted and rotated as the others, under the names and with the fractions of SPIRE', async () => {
  const path = join(mkdtempSync(join(tmpdir(), 'turret-ca-')), 'keys.json')
  const first = await server({ witSvids: true, keyManager: await diskKeyManager(path) })
  const { manager, ca, time, bundle, keyManager } = first
  await manager.rotate()
  const valid = async (token: string) => {
    const { witAuthorities } = await bundle()
    return validateWitSvid({ token, authoritiesOf: () => witAuthorities, at: time.now, verify })
  }
  const old = (await witOf(ca)).token
  await expect(valid(old)).resolves.toMatchObject({ spiffeId: 'spiffe://example.org/w' })
  time.now = START + DAY / 2 + 1
  await manager.rotate()
  expect(manager.witSlots.next).toMatchObject({ letter: 'B', status: 'prepared' })
  expect((await bundle()).witAuthorities.map((key) => key.keyId)).toEqual([
    manager.witSlots.current.authorityId,
    manager.witSlots.next.authorityId,
  ])
  expect([...(await keyManager.getKeys()).keys()].filter((name) => name.startsWith('WIT')).sort()).toEqual([
    'WIT-Signer-A',
    'WIT-Signer-B',
  ])
  expect((await keyManager.getKey('WIT-Signer-A'))?.keyType).toBe('ec-p384')
  // A restart finds them again.
  const second = await server({
    witSvids: true,
    store: first.store,
    keyManager: await diskKeyManager(path),
    at: time.now,
  })
  expect(second.manager.witSlots.current.authorityId).toBe(manager.witSlots.current.authorityId)
  expect(second.manager.witSlots.next.authorityId).toBe(manager.witSlots.next.authorityId)
  time.now = START + (DAY * 5) / 6 + 1
  await manager.rotate()
  expect(manager.witSlots.current.letter).toBe('B')
  await expect(valid((await witOf(ca)).token)).resolves.toBeDefined()
})

test('a JWT key signs no WIT-SVIDs that verify, nor the other way round', async () => {
  const { manager, ca, bundle, time } = await server({ witSvids: true })
  await manager.rotate()
  const { jwtAuthorities, witAuthorities } = await bundle()
  const jwt = await ca.signJwt({ id: parseSpiffeId('spiffe://example.org/w'), audience: ['a'], ttlSeconds: 0 })
  const asWit = validateWitSvid({ token: jwt.token, authoritiesOf: () => witAuthorities, at: time.now, verify })
  await expect(asWit).rejects.toThrow('token type is not "wit+jwt"')
  const asJwt = validateJwtSvid({
    token: (await witOf(ca)).token,
    audience: ['a'],
    authoritiesOf: () => jwtAuthorities,
    at: time.now,
    verify,
  })
  await expect(asJwt).rejects.toThrow('token header type not equal to either')
})

test('WIT keys go upstream where they are taken, and stay here where not', async () => {
  const { upstream, above } = await upstreamServer()
  const taking = { ...upstream, publishWitKey: (key: JwtAuthority) => above.manager.publishWitKey(key) }
  const below = await server({ upstream: taking, witSvids: true })
  await below.manager.rotate()
  const keyId = below.manager.witSlots.current.authorityId
  expect((await above.bundle()).witAuthorities.map((key) => key.keyId)).toEqual([keyId])
  expect((await below.bundle()).witAuthorities.map((key) => key.keyId)).toEqual([keyId])
  const beside = await server({
    upstream: { ...upstream, publishWitKey: async () => undefined },
    witSvids: true,
  })
  await beside.manager.rotate()
  expect((await above.bundle()).witAuthorities).toHaveLength(1)
  expect((await beside.bundle()).witAuthorities.map((key) => key.keyId)).toEqual([
    beside.manager.witSlots.current.authorityId,
  ])
})

test('an authority whose publishing failed is in no bundle and is made anew', async () => {
  const { upstream, above } = await upstreamServer()
  let away = true
  const flaky: UpstreamAuthority = {
    ...upstream,
    publishJwtKey: (key) =>
      away ? Promise.reject(new StatusError('UNAVAILABLE', 'gone')) : above.manager.publishJwtKey(key),
  }
  const below = await server({ upstream: flaky })
  for (let attempt = 0; attempt < 12; attempt++) await expect(below.manager.rotate()).rejects.toThrow('gone')
  expect((await below.bundle()).jwtAuthorities).toEqual([])
  // The CA of the first attempt goes on, and the journal still knows it after that many failures.
  expect((await below.reload()).x509Slots.current.authorityId).toBe(below.manager.x509Slots.current.authorityId)
  away = false
  await below.manager.rotate()
  expect((await below.bundle()).jwtAuthorities.map((key) => key.keyId)).toContain(
    below.manager.jwtSlots.current.authorityId,
  )
})

test('a journal that cannot be written leaves the present authority in its place, and is tried again', async () => {
  const { manager, store, time, ca } = await server()
  await manager.rotate()
  time.now = START + DAY / 2 + 1
  await manager.rotate()
  time.now = START + (DAY * 5) / 6 + 1
  const before = ids(manager)
  const save = vi.spyOn(store.journals, 'save').mockRejectedValue(new Error('disk full'))
  await expect(manager.rotate()).rejects.toThrow('disk full')
  expect(ids(manager)).toEqual(before)
  expect(hex(ca.x509!.certificate.subjectKeyId!)).toBe(before.x509[0])
  save.mockRestore()
  await manager.rotate()
  expect(ids(manager).x509).toEqual([...before.x509].reverse())
  expect(hex(ca.x509!.certificate.subjectKeyId!)).toBe(before.x509[1])
})

test('lifetimes are cut at the end of the authority', async () => {
  const { manager, ca, time } = await server()
  await manager.rotate()
  time.now = START + DAY - 100
  const spki = (await generateSigner('ec-p256')).publicKey
  const id = parseSpiffeId('spiffe://example.org/w')
  expect((await ca.signWorkloadX509({ id, spki, ttlSeconds: 3600 })).expiresAt).toBe(START + DAY)
  expect((await ca.signJwt({ id, audience: ['a'], ttlSeconds: 3600 })).expiresAt).toBe(START + DAY)
  expect((await ca.signDownstreamCa(spki, 0)).expiresAt).toBe(START + DAY)
})

/** A server above, in process: signs CAs and keeps the bundle of the trust domain. */
async function upstreamServer() {
  const above = await server()
  await above.manager.rotate()
  let tell = (_: Pick<Bundle, 'x509Authorities' | 'jwtAuthorities'>) => {}
  const upstream: UpstreamAuthority = {
    name: 'spire',
    async mintX509Ca(csr, ttl) {
      const { parseCsr } = await import('../core/csr.ts')
      const { chain } = await above.ca.signDownstreamCa(parseCsr(csr).spki, ttl)
      return { caChain: chain, upstreamRoots: (await above.bundle()).x509Authorities }
    },
    publishJwtKey: (key) => above.manager.publishJwtKey(key),
    async *follow(signal) {
      while (!signal.aborted)
        yield await new Promise<Pick<Bundle, 'x509Authorities' | 'jwtAuthorities'>>((resolve) => {
          tell = resolve
        })
    },
  }
  return { above, upstream, tell: (update: Pick<Bundle, 'x509Authorities' | 'jwtAuthorities'>) => tell(update) }
}

test('a CA signed upstream signs chains that lead to the upstream root, with the depth in its name', async () => {
  const { above, upstream } = await upstreamServer()
  const below = await server({ upstream })
  await below.manager.rotate()
  const { chain } = await below.ca.signServerX509((await generateSigner('ec-p256')).publicKey)
  expect(chain).toHaveLength(2)
  expect(nameText(parseCertificate(chain[1]!).subject)).toMatch(/OU=DOWNSTREAM-1/)
  const roots = (await below.bundle()).x509Authorities.map(({ der }) => parseCertificate(der))
  const { path } = await verifyX509Svid({ chain, rootsOf: () => roots, at: START, verify })
  expect(path).toHaveLength(3)
  expect(below.manager.x509Slots.current.upstreamAuthorityId).toBe(above.manager.x509Slots.current.authorityId)
  // A server below the server below is one deeper.
  const { chain: deeper } = await below.ca.signDownstreamCa((await generateSigner('ec-p256')).publicKey, 0)
  expect(nameText(parseCertificate(deeper[0]!).subject)).toMatch(/OU=DOWNSTREAM-1/)
})

test('JWT keys are published upstream before they sign, and all known keys come back', async () => {
  const { above, upstream } = await upstreamServer()
  const below = await server({ upstream })
  await below.manager.rotate()
  const keyIds = (keys: readonly JwtAuthority[]) => keys.map((key) => key.keyId).sort()
  expect(keyIds((await above.bundle()).jwtAuthorities)).toEqual(
    [above.manager.jwtSlots.current.authorityId, below.manager.jwtSlots.current.authorityId].sort(),
  )
  expect(keyIds((await below.bundle()).jwtAuthorities)).toEqual(keyIds((await above.bundle()).jwtAuthorities))
})

test('a CA that was signed while the rotation waited is good, one for later is not', async () => {
  const { above, upstream } = await upstreamServer()
  let below: Awaited<ReturnType<typeof server>>
  const late = (aboveSeconds: number, belowSeconds: number): UpstreamAuthority => ({
    ...upstream,
    mintX509Ca(csr, ttl) {
      above.time.now += aboveSeconds
      below.time.now += belowSeconds
      return upstream.mintX509Ca(csr, ttl)
    },
  })
  below = await server({ upstream: late(60, 60) })
  await below.manager.rotate()
  expect(below.ca.x509).toBeDefined()
  below = await server({ upstream: late(60, 0), at: above.time.now })
  await expect(below.manager.rotate()).rejects.toThrow('X509 CA produced an invalid X509-SVID chain')
})

test('a CA that cannot sign valid chains is refused, and nothing is activated', async () => {
  const { upstream } = await upstreamServer()
  const other = await server()
  await other.manager.rotate()
  const wrongRoots = (await other.bundle()).x509Authorities
  const below = await server({
    upstream: {
      ...upstream,
      mintX509Ca: async (csr, ttl) => ({ ...(await upstream.mintX509Ca(csr, ttl)), upstreamRoots: wrongRoots }),
    },
  })
  await expect(below.manager.rotate()).rejects.toThrow(
    'X509 CA minted by upstream authority is invalid: X509 CA produced an invalid X509-SVID chain',
  )
  expect(below.ca.x509).toBeUndefined()
  expect(below.manager.failedRotations).toBe(1)
})

test('an upstream that is away fails a rotation, and the present CA goes on', async () => {
  const { upstream } = await upstreamServer()
  let away = false
  const below = await server({
    upstream: {
      ...upstream,
      mintX509Ca: (csr, ttl) =>
        away ? Promise.reject(new StatusError('UNAVAILABLE', 'gone')) : upstream.mintX509Ca(csr, ttl),
    },
  })
  await below.manager.rotate()
  const before = ids(below.manager).x509[0]
  away = true
  below.time.now += DAY / 2 + 1
  await expect(below.manager.rotate()).rejects.toThrow('gone')
  expect(ids(below.manager).x509[0]).toBe(before)
  away = false
  await below.manager.rotate()
  expect(below.manager.x509Slots.next.status).toBe('prepared')
})

test('a root that is tainted upstream is replaced below before its taint is told on, and removed when it is gone', async () => {
  const { above, upstream, tell } = await upstreamServer()
  const below = await server({ upstream })
  await below.manager.rotate()
  const stop = new AbortController()
  const following = below.manager.followUpstream(stop.signal)
  const oldRoot = above.manager.x509Slots.current.authorityId
  await above.manager.prepareX509()
  await above.manager.activateX509(above.manager.x509Slots.next.authorityId)
  const taint = (root: Bundle['x509Authorities'][number]) =>
    hex(parseCertificate(root.der).subjectKeyId!) === oldRoot ? { ...root, tainted: true } : root
  const bundle = await above.bundle()
  await new Promise((resolve) => setImmediate(resolve))
  tell({ x509Authorities: bundle.x509Authorities.map(taint), jwtAuthorities: bundle.jwtAuthorities })
  await expect.poll(() => below.tainted).toEqual([oldRoot])
  expect(below.manager.x509Slots.current.upstreamAuthorityId).toBe(above.manager.x509Slots.current.authorityId)
  expect((await below.bundle()).x509Authorities.filter((root) => root.tainted)).toHaveLength(1)
  await expect
    .poll(async () => {
      tell({
        x509Authorities: bundle.x509Authorities.filter((root) => taint(root) === root),
        jwtAuthorities: bundle.jwtAuthorities,
      })
      return (await below.bundle()).x509Authorities.length
    })
    .toBe(1)
  stop.abort()
  tell({ x509Authorities: [], jwtAuthorities: [] })
  await following
})

test('what ended a day ago leaves the bundle, but never the last of its kind', async () => {
  const { manager, store, time, bundle } = await server()
  await manager.rotate()
  await expect(pruneBundle(store.bundles, trustDomain, START + 2 * DAY + 1, silentLog)).rejects.toThrow(
    'would prune all certificates',
  )
  time.now += (DAY * 5) / 6 + 1
  await manager.rotate()
  expect((await bundle()).x509Authorities).toHaveLength(2)
  await pruneBundle(store.bundles, trustDomain, START + 2 * DAY, silentLog)
  expect((await bundle()).x509Authorities).toHaveLength(2)
  await pruneBundle(store.bundles, trustDomain, START + 2 * DAY + 1, silentLog)
  expect((await bundle()).x509Authorities).toHaveLength(1)
  expect((await bundle()).jwtAuthorities).toHaveLength(1)
})

test('a kind of key that is not made any more keeps its last keys and hinders no pruning', async () => {
  const { manager, store, time, bundle } = await server({ witSvids: true })
  await manager.rotate()
  const last = (await bundle()).witAuthorities
  await store.bundles.append({ trustDomain, jwtAuthorities: [{ ...last[0]!, keyId: 'other', expiresAt: START }] })
  time.now += (DAY * 5) / 6 + 1
  const later = await server({ store, keyManager: memoryKeyManager(), at: START + 2 * DAY })
  await later.manager.rotate()
  await pruneBundle(store.bundles, trustDomain, START + 3 * DAY + 1, silentLog)
  expect((await bundle()).x509Authorities).toHaveLength(1)
  expect((await bundle()).jwtAuthorities.map(({ keyId }) => keyId)).toEqual([
    later.manager.jwtSlots.current.authorityId,
  ])
  expect((await bundle()).witAuthorities).toEqual(last)
})

test('journals go two weeks after their last authority', async () => {
  const { manager, store } = await server()
  await manager.rotate()
  expect(await pruneJournals(store.journals, START + DAY + 14 * DAY)).toBe(0)
  expect(await pruneJournals(store.journals, START + DAY + 14 * DAY + 1)).toBe(1)
})
