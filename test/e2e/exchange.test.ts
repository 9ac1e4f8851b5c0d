import { execFile, execFileSync } from 'node:child_process'
import { createPrivateKey, createPublicKey, X509Certificate } from 'node:crypto'
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { calculateJwkThumbprint, createLocalJWKSet, decodeJwt, type JWK, jwtVerify } from 'jose'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { freePort } from '../../examples/nested/free-ports.ts'
import { ExchangeJWTRequest, ExchangeJWTResponse } from '../../proto/turret/exchange/v1.ts'
import { connect } from '../../src/transport/grpc-client.ts'
import { Cluster, type ServerFiles } from '../support/cluster.ts'
import { type PlatformIssuer, platformIssuer } from '../support/platform-issuer.ts'
import { PLATFORM_TOKENS } from '../support/platform-tokens.ts'

const AUDIENCE = 'https://id.example.org'
const JWT = 'urn:ietf:params:oauth:token-type:jwt'
const GITHUB = PLATFORM_TOKENS.find(({ type }) => type === 'github_actions')!
const K8S = PLATFORM_TOKENS.find(({ type }) => type === 'k8s_psat')!

const cluster = new Cluster()
let files: ServerFiles
let url: string
/** Issuers, by the name of the source that takes their tokens. */
const issuers: Record<string, PlatformIssuer> = {}
const BROKEN = ['redirects', 'http', 'huge', 'slow', 'flooded'] as const

beforeAll(async () => {
  for (const name of ['ci', 'cluster', ...BROKEN]) issuers[name] = await platformIssuer()
  const port = await freePort()
  url = `http://127.0.0.1:${port}`
  // A cluster whose issuer nobody can reach: its keys are in a file.
  const jwks = await (await fetch(`${issuers.cluster!.url}/jwks`)).text()
  writeFileSync(cluster.path('cluster.json'), jwks)
  const github = (name: string) => `
    "${name}" {
      type = "github_actions"
      issuer = "${issuers[name]!.url}"
      audience = "${AUDIENCE}/${name}"
      allow { repository_owner_id = ["65"] }
    }`
  files = await cluster.serverFiles('server', {
    server: `
  audit_log_enabled = true
  experimental {
    http {
      bind_port = ${port}
      audiences = ["${url}"]
      exchange {
        ${['ci', ...BROKEN].map(github).join('')}
        "cluster" {
          type = "k8s_psat"
          issuer = "https://kubernetes.default.svc.cluster.local"
          jwks_path = "${cluster.path('cluster.json')}"
          audience = "${AUDIENCE}"
          cluster_name = "prod"
          allow { namespace = ["shop"] }
          max_ttl = "10m"
        }
      }
    }
  }`,
  })
  await cluster.startServer(files)
  const entry = (source: string, id: string, ...selectors: readonly string[]) =>
    cluster.must(
      files,
      'entry',
      'create',
      '-parentID',
      `spiffe://example.org/spire/exchange/${source}`,
      '-spiffeID',
      `spiffe://example.org/${id}`,
      ...selectors.flatMap((selector) => ['-selector', selector]),
    )
  await entry('ci', 'ci/deploy', 'github_actions:repository_id:74', 'github_actions:environment:prod')
  await entry(
    'cluster',
    'shop/cart',
    'k8s_psat:cluster_name:prod',
    'k8s_psat:service_account_uid:a087d5a0-e1dd-43ec-93ac-f13d89cd13af',
  )
}, 60_000)
afterAll(async () => {
  for (const issuer of Object.values(issuers)) issuer.stop()
  await cluster.stop()
}, 30_000)

let count = 0
function token(name: string, header: Parameters<PlatformIssuer['sign']>[1] = {}, boundTo = ''): Promise<string> {
  const iat = Math.floor(Date.now() / 1000)
  const issuer = issuers[name]!
  if (name === 'cluster') {
    const claims = {
      ...K8S.claims,
      iss: 'https://kubernetes.default.svc.cluster.local',
      aud: [AUDIENCE],
      iat,
      exp: iat + 600,
    }
    return issuer.sign(claims, header)
  }
  count += 1
  const claims = {
    ...GITHUB.claims,
    jti: `t${count}`,
    iss: issuer.url,
    aud: `${AUDIENCE}/${name}${boundTo}`,
    iat,
    exp: iat + 300,
  }
  return issuer.sign(claims, header)
}

async function exchange(text: string, more: Readonly<Record<string, string>> = { audience: 'db' }) {
  const body = new URLSearchParams({
    grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
    subject_token_type: JWT,
    subject_token: text,
    ...more,
  })
  const response = await fetch(`${url}/v1/token`, { method: 'POST', body })
  return { status: response.status, body: (await response.json()) as Record<string, string> }
}

test('a job exchanges its token for a JWT-SVID that the published keys verify', async () => {
  const { status, body } = await exchange(await token('ci'))
  expect(status).toBe(200)
  const keys = createLocalJWKSet(await (await fetch(`${url}/keys`)).json())
  const { payload } = await jwtVerify(body.access_token!, keys, {
    audience: 'db',
    subject: 'spiffe://example.org/ci/deploy',
  })
  expect(payload.exp! - payload.iat!).toBe(300)
})

test('a pod makes a key, and gets an X509-SVID that openssl verifies', async () => {
  const at = (name: string) => cluster.path(name)
  execFileSync('openssl', ['ecparam', '-name', 'prime256v1', '-genkey', '-noout', '-out', at('key.pem')])
  execFileSync('openssl', ['req', '-new', '-key', at('key.pem'), '-subj', '/', '-out', at('csr.pem')])
  const { status, body } = await exchange(await token('cluster'), {
    requested_token_type: 'urn:turret:params:token-type:x509-svid',
    csr: readFileSync(at('csr.pem'), 'utf8'),
  })
  expect(status).toBe(200)
  expect(Number(body.expires_in)).toBeLessThanOrEqual(600)
  writeFileSync(at('svid.pem'), body.access_token!)
  writeFileSync(at('bundle.pem'), body.bundle!)
  expect(
    execFileSync('openssl', ['verify', '-CAfile', at('bundle.pem'), at('svid.pem')], { encoding: 'utf8' }),
  ).toContain('OK')
  const text = execFileSync('openssl', ['x509', '-in', at('svid.pem'), '-noout', '-ext', 'subjectAltName'], {
    encoding: 'utf8',
  })
  expect(text).toContain('URI:spiffe://example.org/shop/cart')
  const ofKey = execFileSync('openssl', ['pkey', '-in', at('key.pem'), '-pubout'], { encoding: 'utf8' })
  expect(execFileSync('openssl', ['x509', '-in', at('svid.pem'), '-noout', '-pubkey'], { encoding: 'utf8' })).toBe(
    ofKey,
  )
})

test('the example script fetches both kinds of SVID with curl and openssl, and says why it cannot', async () => {
  const run = promisify(execFile)
  const script = resolve(import.meta.dirname, '../../examples/agentless/fetch-svid')
  const [directory, file] = [cluster.path('fetched'), cluster.path('token')]
  const fetchSvid = async (...audiences: readonly string[]) => run(script, [url, file, directory, ...audiences])
  writeFileSync(file, `${await token('ci')}\n`)
  await fetchSvid()
  expect(readdirSync(directory).sort()).toEqual(['bundle.pem', 'key.pem', 'svid.pem'])
  const leaf = new X509Certificate(readFileSync(join(directory, 'svid.pem')))
  expect(leaf.subjectAltName).toBe('URI:spiffe://example.org/ci/deploy')
  expect(leaf.checkPrivateKey(createPrivateKey(readFileSync(join(directory, 'key.pem'))))).toBe(true)
  expect(leaf.verify(new X509Certificate(readFileSync(join(directory, 'bundle.pem'))).publicKey)).toBe(true)
  expect(statSync(join(directory, 'key.pem')).mode & 0o777).toBe(0o600)
  await expect(fetchSvid('db')).rejects.toMatchObject({
    stderr: 'fetch-svid: HTTP 400: the token was used before\n',
  })
  writeFileSync(file, await token('ci'))
  await fetchSvid('db', 'a queue & more')
  expect(decodeJwt(readFileSync(join(directory, 'jwt-svid'), 'utf8')).aud).toEqual(['db', 'a queue & more'])
})

test('the example script makes a key to which a token can be bound', async () => {
  const run = promisify(execFile)
  const script = resolve(import.meta.dirname, '../../examples/agentless/fetch-svid')
  const [mine, other, file] = [cluster.path('mine'), cluster.path('other'), cluster.path('bound')]
  const { stdout } = await run(script, ['thumbprint', mine])
  const thumbprint = stdout.trimEnd()
  const key = createPrivateKey(readFileSync(join(mine, 'next-key.pem')))
  expect(thumbprint).toBe(await calculateJwkThumbprint(createPublicKey(key).export({ format: 'jwk' }) as JWK))
  await run(script, ['thumbprint', other])
  writeFileSync(file, await token('ci', {}, `#${thumbprint}`))
  await expect(run(script, [url, file, other])).rejects.toMatchObject({
    stderr: 'fetch-svid: HTTP 400: the token is bound to another key\n',
  })
  await run(script, [url, file, mine])
  expect(readdirSync(mine).sort()).toEqual(['bundle.pem', 'key.pem', 'svid.pem'])
  expect(new X509Certificate(readFileSync(join(mine, 'svid.pem'))).checkPrivateKey(key)).toBe(true)
})

test('the three doors are one: a token that went through one is refused at the others', async () => {
  const text = await token('ci')
  const channel = await connect({ target: `dns:///127.0.0.1:${files.port}`, tls: { verifyServer: () => {} } })
  try {
    const method = {
      path: '/turret.exchange.v1.Exchange/ExchangeJWT',
      request: ExchangeJWTRequest,
      response: ExchangeJWTResponse,
    }
    const request = { subject: { token: text, source: '', spiffeId: '' }, audience: ['db'], keyProof: '' }
    const answer = await channel.unary(method, request)
    expect(answer.svid!.id).toEqual({ trustDomain: 'example.org', path: '/ci/deploy' })
    await expect(channel.unary(method, request)).rejects.toMatchObject({ code: 'UNAUTHENTICATED' })
  } finally {
    channel.close()
  }
  expect(await exchange(text)).toEqual({
    status: 400,
    body: { error: 'invalid_request', error_description: 'the token was used before' },
  })
  const connectJson = await fetch(`${url}/turret.exchange.v1.Exchange/ExchangeJWT`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ subject: { token: text }, audience: ['db'] }),
  })
  expect(connectJson.status).toBe(401)
  expect(await connectJson.json()).toMatchObject({ code: 'unauthenticated', message: 'the token was used before' })
  const rest = await fetch(`${url}/api/v1/svid/ci/jwt`, {
    method: 'POST',
    headers: { authorization: `Bearer ${text}` },
    body: JSON.stringify({ audiences: ['db'] }),
  })
  expect(rest.status).toBe(401)
})

test('of ten requests at once with one token, one gets an SVID', async () => {
  const text = await token('ci')
  const statuses = await Promise.all(Array.from({ length: 10 }, async () => (await exchange(text)).status))
  expect(statuses.filter((status) => status === 200)).toHaveLength(1)
})

async function elsewhere(): Promise<{ readonly server: Server; readonly asked: string[]; readonly url: string }> {
  const asked: string[] = []
  const server = createServer((request, response) => {
    asked.push(request.url!)
    response.end('{}')
  })
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  return { server, asked, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }
}

test.each<[(typeof BROKEN)[number], string]>([
  ['redirects', 'it redirects'],
  ['http', 'must be fetched over https://'],
  ['huge', 'larger than 256 KiB'],
])('an issuer of which "%s" is told cannot be used, and nobody else is asked', async (name, reason) => {
  const trap = await elsewhere()
  try {
    issuers[name]!.meddle = (request, response) => {
      if (name === 'redirects') response.writeHead(302, { location: `${trap.url}${request.url}` }).end()
      else if (name === 'http')
        response.end(JSON.stringify({ issuer: issuers[name]!.url, jwks_uri: 'http://keys.example/jwks' }))
      else response.end(`{"keys":["${'x'.repeat(1_000_000)}"]}`)
      return true
    }
    const answer = await exchange(await token(name))
    expect(answer).toMatchObject({ status: 503, body: { error: 'temporarily_unavailable' } })
    // Who asks is a stranger: where keys are fetched, and how that failed, is for the log alone.
    expect(answer.body.error_description).not.toContain(reason)
    expect(answer.body.error_description).not.toContain('jwks')
    expect(cluster.log('server')).toContain(reason)
    expect(trap.asked).toEqual([])
  } finally {
    trap.server.close()
  }
})

test('an issuer that never answers is given up, and does not hold up the others', async () => {
  issuers.slow!.meddle = () => true
  const waiting = exchange(await token('slow'))
  expect((await exchange(await token('ci'))).status).toBe(200)
  expect(await waiting).toMatchObject({ status: 503, body: { error: 'temporarily_unavailable' } })
}, 30_000)

test('made-up key ids do not make us ask an issuer again and again', async () => {
  const outcomes = await Promise.all(
    Array.from({ length: 30 }, async (_, index) => exchange(await token('flooded', { kid: `made-up-${index}` }))),
  )
  for (const { body } of outcomes) expect(body.error_description).toMatch(/^the issuer has no key/)
  expect(issuers.flooded!.asked).toEqual(['/.well-known/openid-configuration', '/jwks'])
})

test('the audit line names token, issuer, subject, entry and ID; no token is in the log', async () => {
  const texts = [await token('ci'), await token('ci', { kid: 'none' })]
  for (const text of texts) await exchange(text)
  const log = cluster.log('server')
  const line = log.split('\n').findLast((one) => one.includes('API accessed') && one.includes('spiffe_id'))
  for (const part of [
    'entry_id',
    'issuer',
    'subject',
    'token_hash',
    'spiffe://example.org/ci/deploy',
    'status=success',
  ])
    expect(line).toContain(part)
  for (const text of texts) for (const part of text.split('.')) expect(log).not.toContain(part)
})

test.each<[string, string]>([
  ['type = "github"', 'type "github" is none of'],
  ['type = "github_actions" audience = "a"', 'allow must name whose tokens are taken'],
  ['type = "github_actions" audience = "a" alow { repository_id = ["1"] }', 'unknown key "alow"'],
  [
    'type = "github_actions" audience = "a" allow { repository_id = ["1"] } max_ttl = "2h"',
    'max_ttl must be between 1 and 3600 seconds',
  ],
])('validate says what is wrong with a source: %s', async (block, reason) => {
  const broken = await cluster.serverFiles('broken', {
    server: `experimental { http { bind_port = 1 audiences = ["https://x"] exchange { "ci" { ${block} } } } }`,
  })
  const { code, stderr } = await cluster.processes.run('turret-server', ['validate', '-config', broken.config])
  expect(code).toBe(1)
  expect(stderr).toContain(reason)
})
