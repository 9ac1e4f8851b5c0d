import { readFileSync, statSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { exportJWK, generateKeyPair, SignJWT } from 'jose'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { freePort } from '../../examples/nested/free-ports.ts'
import { certificatesFromPem } from '../../src/core/pem.ts'
import { Cluster, type ServerFiles, spiffe } from '../support/cluster.ts'

// Administration from somewhere else: every command over HTTPS's stand-in on loopback, with each kind of identity.

// The command `wit mint` is there for those who ask for it.
process.env.SPIRE_SERVER_FFLAGS = 'wit-svid'

const FRONT_SECRET = 'f'.repeat(40)
const cluster = new Cluster()
let server: ServerFiles
let url: string
let issuer: Server
let key: string
let bundle: string
const idpKey = await generateKeyPair('ES256', { extractable: true })

beforeAll(async () => {
  issuer = createServer(async (request, response) => {
    const base = issuerUrl()
    const jwk = { ...(await exportJWK(idpKey.publicKey)), kid: 'one' }
    response.end(JSON.stringify(request.url === '/jwks' ? { keys: [jwk] } : { issuer: base, jwks_uri: `${base}/jwks` }))
  })
  await new Promise<void>((done) => issuer.listen(0, '127.0.0.1', done))
  key = cluster.path('operator.pem')
  const printed = await cluster.processes.must('turret-server', ['operator', 'keygen', '-out', key])
  const thumbprint = /Thumbprint: (\S+)/.exec(printed)![1]
  const port = await freePort()
  url = `http://127.0.0.1:${port}`
  server = await cluster.serverFiles('remote', {
    server: `admin_ids = ["${spiffe('admin')}"]
  experimental { feature_flags = ["wit-svid"] http {
    fronts "lb" { carrier = "rfc9440" addresses = ["127.0.0.0/8"] secret = "${FRONT_SECRET}" }
    bind_port = ${port}
    audiences = ["${url}"]
    operator_keys = ["${thumbprint}"]
    oidc_admins "idp" { issuer = "${issuerUrl()}" audience = "turret" claims { groups = ["ops"] } }
  } }`,
  })
  await cluster.startServer(server)
  bundle = cluster.path('bundle.pem')
  writeFileSync(bundle, await cluster.must(server, 'bundle', 'show'))
}, 30_000)

afterAll(async () => {
  issuer.closeAllConnections()
  issuer.close()
  await cluster.stop()
}, 30_000)

const issuerUrl = () => `http://127.0.0.1:${(issuer.address() as AddressInfo).port}`
const remote = (args: readonly string[], identity: readonly string[] = ['-operatorKey', key]) =>
  cluster.processes.run('turret-server', [...args, '-serverURL', url, '-serverTrustBundle', bundle, ...identity])

test('the private key of an operator is for its owner only, and no file is written over', async () => {
  expect(statSync(key).mode & 0o777).toBe(0o600)
  const before = readFileSync(key, 'utf8')
  const { code, stderr } = await cluster.processes.run('turret-server', ['operator', 'keygen', '-out', key])
  expect([code, stderr]).toEqual([1, `Error: open ${key}: file exists\n`])
  expect(readFileSync(key, 'utf8')).toBe(before)
})

const ENTRY = ['-parentID', spiffe('node'), '-spiffeID', spiffe('w'), '-selector', 'unix:uid:1', '-entryID', 'one']

/** In an order in which each finds what it needs. */
test.each<[args: readonly string[], shows: string | RegExp]>([
  [['healthcheck'], 'Server is healthy.'],
  [['token', 'generate', '-spiffeID', spiffe('node')], /Token: \S+/],
  [['entry', 'create', ...ENTRY], 'Entry ID                : one'],
  [['entry', 'show'], 'Found 2 entries'],
  [['entry', 'update', ...ENTRY, '-hint', 'h'], 'Hint                    : h'],
  [['entry', 'count'], '2 registration entries'],
  [['entry', 'delete', '-entryID', 'one'], 'Deleted entry with ID: one'],
  [['agent', 'list'], 'No attested agents found'],
  [['agent', 'count'], '0 attested agents'],
  [['agent', 'purge', '-expiredFor', '1h'], 'No agents to purge'],
  [['bundle', 'show'], 'BEGIN CERTIFICATE'],
  [['bundle', 'count'], '1 bundle'],
  [['bundle', 'list'], ''],
  [['federation', 'list'], 'Found 0 federation relationships'],
  [['jwt', 'mint', '-spiffeID', spiffe('w'), '-audience', 'a'], /^eyJ/],
  [['x509', 'mint', '-spiffeID', spiffe('w')], 'BEGIN CERTIFICATE'],
  [['logger', 'get'], 'Logger Level'],
  [['logger', 'set', '-level', 'info'], 'Logger Level : info'],
  [['logger', 'reset'], 'Logger Level : debug'],
  [['debug', 'getinfo'], 'Registration Entries'],
])('turret-server %j works from somewhere else', async (args, shows) => {
  const { code, stdout, stderr } = await remote(args)
  expect([code, stderr]).toEqual([0, ''])
  expect(stdout).toMatch(shows)
})

test('commands that the server refuses say why, as over the socket', async () => {
  const { code, stderr } = await remote(['agent', 'show', '-spiffeID', spiffe('spire/agent/none')])
  expect([code, stderr]).toEqual([1, 'Error: rpc error: code = NotFound desc = agent not found\n'])
})

async function oidcToken(claims: Record<string, unknown>): Promise<string> {
  const file = cluster.path(`token-${crypto.randomUUID()}`)
  const token = await new SignJWT({ iss: issuerUrl(), sub: 'me', aud: 'turret', ...claims })
    .setProtectedHeader({ alg: 'ES256', kid: 'one' })
    .setIssuedAt()
    .setExpirationTime('5m')
    .sign(idpKey.privateKey)
  writeFileSync(file, token)
  return file
}

test('an administrator by X509-SVID, by WIT-SVID, by OIDC token and by a JWK', async () => {
  await cluster.must(server, 'x509', 'mint', '-spiffeID', spiffe('admin'), '-write', cluster.path(''))
  const svid = ['-identityCert', cluster.path('svid.pem'), '-identityKey', cluster.path('key.pem')]
  const jwk = cluster.path('operator.jwk')
  const { importPKCS8 } = await import('jose')
  const imported = await importPKCS8(readFileSync(key, 'utf8'), 'ES256', { extractable: true })
  writeFileSync(jwk, JSON.stringify(await exportJWK(imported)))
  await cluster.must(server, 'wit', 'mint', '-spiffeID', spiffe('admin'), '-write', cluster.path(''))
  const wit = ['-identityWIT', cluster.path('token'), '-identityKey', cluster.path('key')]
  for (const identity of [svid, wit, ['-oidcTokenFile', await oidcToken({ groups: ['ops'] })], ['-operatorKey', jwk]]) {
    expect(await remote(['entry', 'count'], identity)).toMatchObject({ code: 0, stderr: '' })
  }
  // What only the socket offers is for operators, not for identities of the trust domain.
  expect((await remote(['logger', 'get'], svid)).stderr).toContain('authorization denied')
}, 20_000)

test('an administrator whose certificate a front saw', async () => {
  await cluster.must(server, 'x509', 'mint', '-spiffeID', spiffe('admin'), '-write', cluster.path(''))
  const [leaf] = certificatesFromPem(readFileSync(cluster.path('svid.pem'), 'utf8'))
  const count = async (headers: Record<string, string>) => {
    const all = { 'content-type': 'application/json', 'client-cert': `:${Buffer.from(leaf!).toString('base64')}:` }
    const path = '/spire.api.server.entry.v1.Entry/CountEntries'
    const response = await fetch(`${url}${path}`, { method: 'POST', headers: { ...all, ...headers }, body: '{}' })
    return response.status
  }
  expect(await count({ 'turret-front-secret': FRONT_SECRET })).toBe(200)
  expect(await count({})).toBe(401)
  expect(await count({ 'turret-front-secret': FRONT_SECRET.replace('f', 'e') })).toBe(401)
})

test.each<[name: string, identity: () => Promise<string[]> | string[], reason: string]>([
  ['nobody', () => [], 'authorization denied for method /spire.api.server.entry.v1.Entry/CountEntries'],
  [
    'somebody else of the issuer',
    async () => ['-oidcTokenFile', await oidcToken({ groups: ['dev'] })],
    'does not make its holder an administrator',
  ],
  [
    'a token for another',
    async () => ['-oidcTokenFile', await oidcToken({ aud: 'x', groups: ['ops'] })],
    'for another audience',
  ],
  ['two at once', async () => ['-operatorKey', key, '-oidcTokenFile', key], 'only one identity can be used'],
  ['a WIT-SVID without its key', () => ['-identityWIT', bundle], 'go together'],
  ['a WIT-SVID that is none', () => ['-identityWIT', bundle, '-identityKey', key], 'there is no WIT-SVID in'],
  ['a certificate without its key', () => ['-identityCert', bundle], 'go together'],
  ['a key that is none', () => ['-operatorKey', bundle], 'there is no private key in'],
  ['a file that is not there', () => ['-operatorKey', '/nowhere'], 'open /nowhere: no such file or directory'],
  [
    'an agent that is not there',
    () => ['-identitySocket', '/nowhere.sock'],
    'unable to get an X509-SVID from the Workload API',
  ],
])('%s is refused: with the reason, without anything secret', async (_, identity, reason) => {
  const { code, stdout, stderr } = await remote(['entry', 'count'], await identity())
  expect([code, stdout]).toEqual([1, ''])
  expect(stderr).toContain(reason)
})

test('the key of a stranger is refused', async () => {
  const stranger = cluster.path('stranger.pem')
  await cluster.processes.must('turret-server', ['operator', 'keygen', '-out', stranger])
  expect((await remote(['entry', 'count'], ['-operatorKey', stranger])).stderr).toContain('no operator of this server')
})

test('a server whose answers the bundle does not verify is not believed', async () => {
  const other = await cluster.serverFiles('other')
  await cluster.startServer(other)
  const wrong = cluster.path('wrong.pem')
  writeFileSync(wrong, await cluster.must(other, 'bundle', 'show'))
  const { code, stderr } = await cluster.processes.run('turret-server', [
    ...['bundle', 'show', '-serverURL', url, '-serverTrustBundle', wrong, '-operatorKey', key],
  ])
  expect(code).toBe(1)
  expect(stderr).toContain("the server's answer is not to be trusted")
}, 30_000)

test.each([
  [['-serverURL', 'http://example.org'], 'must start with https://'],
  [['-serverURL', 'https://example.org'], 'name the bundle of its trust domain with -serverTrustBundle'],
])('turret-server bundle show %j says what is missing', async (args, reason) => {
  const { code, stderr } = await cluster.processes.run('turret-server', ['bundle', 'show', ...args])
  expect(code).toBe(1)
  expect(stderr).toContain(reason)
})

test('variables stand for the flags, and a socket that is named wins over them', async () => {
  const environment = { TURRET_SERVER_URL: url, TURRET_SERVER_TRUST_BUNDLE: bundle, TURRET_OPERATOR_KEY: key }
  Object.assign(process.env, environment)
  try {
    const own = new Cluster()
    expect((await own.processes.run('turret-server', ['entry', 'count'])).stdout).toContain('registration entr')
    expect((await own.processes.run('turret-server', ['entry', 'count', '-socketPath', '/nowhere'])).stderr).toContain(
      '/nowhere',
    )
    await own.stop()
  } finally {
    for (const name of Object.keys(environment)) delete process.env[name]
  }
})
