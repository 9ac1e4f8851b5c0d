import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { parseCertificate } from '../../src/core/certificate.ts'
import { errorMessage } from '../../src/core/error.ts'
import { verifyPath } from '../../src/core/path-validation.ts'
import { encodePem } from '../../src/core/pem.ts'
import { webCryptoVerifier } from '../../src/core/public-key.ts'
import { generateSigner, nodeVerifier } from '../../src/plugins/signer.ts'
import { AT, type Constraints, type Made, makeCertificate, makeExtension } from '../support/x509.ts'

/** One chain and who takes it. `openssl` and `go` are given, with the reason, only where they judge differently. */
interface Case {
  readonly name: string
  readonly leaf: Uint8Array
  readonly intermediates?: readonly Uint8Array[]
  readonly roots: readonly Uint8Array[]
  /** Part of our error; absent: the chain is good. */
  readonly error?: string
  readonly openssl?: { readonly accepts: boolean; readonly because: string }
  readonly go?: { readonly accepts: boolean; readonly because: string }
}

const UNKNOWN = 'x509: certificate signed by unknown authority'
const CANNOT_SIGN = 'parent certificate cannot sign this kind of certificate'
const TOO_MANY = 'x509: too many intermediates for path length constraint'
const DATES = 'x509: certificate has expired or is not yet valid'
const CRITICAL = 'x509: unhandled critical extension'
const EXCLUDED = 'is excluded by a constraint'
const NOT_PERMITTED = 'is not permitted by any constraint'
const WEB = ['spiffe://example.org/web']

const cases: Case[] = []
const folder = mkdtempSync(join(tmpdir(), 'turret-paths-'))
afterAll(() => rmSync(folder, { recursive: true }))

beforeAll(async () => {
  const root = await makeCertificate({ name: 'root', ca: true })
  const middle = await makeCertificate({ name: 'middle', ca: true }, root)
  const leaf = await makeCertificate({ name: 'leaf', uris: WEB }, middle)
  const direct = await makeCertificate({ name: 'leaf', uris: WEB }, root)
  const add = (
    name: string,
    leafMade: Made,
    between: readonly Made[],
    roots: readonly Made[],
    rest: Partial<Case> = {},
  ) =>
    cases.push({
      name,
      leaf: leafMade.der,
      intermediates: between.map(({ der }) => der),
      roots: roots.map(({ der }) => der),
      ...rest,
    })

  add('a leaf of the root', direct, [], [root])
  add('a leaf of an intermediate', leaf, [middle], [root])
  add('an intermediate that is missing', leaf, [], [root], { error: UNKNOWN })
  add('a root that is missing', leaf, [middle], [], { error: UNKNOWN })
  add('a root among the intermediates only', leaf, [middle, root], [], { error: UNKNOWN })
  add('intermediates out of order and twice', leaf, [root, middle, middle], [root])

  const namesake = await makeCertificate({ name: 'root', ca: true })
  add('another root of the same name', direct, [], [namesake], { error: UNKNOWN })
  add('the right root beside its namesake', direct, [], [namesake, root])
  const liar = await makeCertificate({ name: 'leaf', uris: WEB }, { ...root, key: namesake.key })
  add('a leaf with the name of a root that did not sign it', liar, [], [root], { error: UNKNOWN })

  const late = { notBefore: AT + 1, notAfter: AT + 3600 }
  const past = { notBefore: AT - 3600, notAfter: AT - 1 }
  add('a leaf that has expired', await makeCertificate({ name: 'leaf', ...past }, root), [], [root], { error: DATES })
  add('a leaf of tomorrow', await makeCertificate({ name: 'leaf', ...late }, root), [], [root], { error: DATES })
  add('a leaf in its last second', await makeCertificate({ name: 'leaf', notAfter: AT }, root), [], [root], {
    openssl: { accepts: false, because: 'it counts the last second as over; RFC 5280 4.1.2.5 does not' },
  })
  add('a leaf in its first second', await makeCertificate({ name: 'leaf', notBefore: AT }, root), [], [root])
  const oldMiddle = await makeCertificate({ name: 'middle', ca: true, key: middle.key, ...past }, root)
  add('an intermediate that has expired', leaf, [oldMiddle], [root], { error: DATES })
  add('an expired intermediate beside a good one', leaf, [oldMiddle, middle], [root])
  const oldRoot = await makeCertificate({ name: 'root', ca: true, key: root.key, ...past })
  add('a root that has expired', direct, [], [oldRoot], { error: DATES })

  const plain = await makeCertificate({ name: 'plain' }, root)
  add('an intermediate that is no CA', await makeCertificate({ name: 'leaf' }, plain), [plain], [root], {
    error: CANNOT_SIGN,
  })
  const mute = await makeCertificate({ name: 'mute', ca: true, keyUsage: Uint8Array.of(1, 0b10) }, root)
  add('an intermediate that may sign CRLs only', await makeCertificate({ name: 'leaf' }, mute), [mute], [root], {
    error: CANNOT_SIGN,
  })
  const free = await makeCertificate({ name: 'free', ca: true, keyUsage: undefined }, root)
  add('an intermediate without key usage', await makeCertificate({ name: 'leaf' }, free), [free], [root])

  const short = await makeCertificate({ name: 'short', ca: true, pathLength: 0 })
  const shortMiddle = await makeCertificate({ name: 'short middle', ca: true }, short)
  add('path length 0 with a leaf', await makeCertificate({ name: 'leaf' }, short), [], [short])
  add(
    'path length 0 with an intermediate',
    await makeCertificate({ name: 'leaf' }, shortMiddle),
    [shortMiddle],
    [short],
    {
      error: TOO_MANY,
    },
  )

  const odd = makeExtension('1.3.6.1.4.1.99999.1', true, Uint8Array.of(5, 0))
  const oddRoot = await makeCertificate({ name: 'odd root', ca: true, extra: [odd] })
  add(
    'an unknown critical extension in the leaf',
    await makeCertificate({ name: 'leaf', extra: [odd] }, root),
    [],
    [root],
    {
      error: CRITICAL,
    },
  )
  add('an unknown critical extension in the root', await makeCertificate({ name: 'leaf' }, oddRoot), [], [oddRoot], {
    error: CRITICAL,
  })

  const strangerKey = await makeCertificate({ name: 'leaf', authorityKeyId: new Uint8Array(20) }, root)
  add('a key identifier of nobody', strangerKey, [], [root], {
    error: UNKNOWN,
    go: { accepts: true, because: 'key identifiers only order the candidates' },
  })

  const constrained = async (
    name: string,
    constraints: Constraints,
    sans: { uris?: string[]; dnsNames?: string[]; ips?: number[][] },
    rest: Partial<Case> = {},
  ) => {
    const ca = await makeCertificate({ name: 'constrained', ca: true, constraints }, root)
    add(name, await makeCertificate({ name: 'leaf', ...sans }, ca), [ca], [root], rest)
  }
  const only = (type: number, value: string | number[]): Constraints => ({ permitted: [[type, value]] })
  const not = (type: number, value: string | number[]): Constraints => ({ excluded: [[type, value]] })
  await constrained('URI: the permitted host', only(6, 'example.org'), { uris: WEB })
  await constrained('URI: another host', only(6, 'example.com'), { uris: WEB }, { error: NOT_PERMITTED })
  await constrained('URI: the excluded host', not(6, 'example.org'), { uris: WEB }, { error: EXCLUDED })
  await constrained('URI: another host is excluded', not(6, 'example.com'), { uris: WEB })
  await constrained('URI: below a permitted domain', only(6, '.example.org'), { uris: ['spiffe://a.example.org/x'] })
  await constrained(
    'URI: the domain itself is not below it',
    only(6, '.example.org'),
    { uris: WEB },
    { error: NOT_PERMITTED },
  )
  await constrained('URI: a host that ends alike', only(6, '.ample.org'), { uris: WEB }, { error: NOT_PERMITTED })
  await constrained(
    'URI: below a permitted host',
    only(6, 'example.org'),
    { uris: ['spiffe://a.example.org/x'] },
    { error: NOT_PERMITTED, go: { accepts: true, because: 'it reads a URI host like a DNS domain' } },
  )
  await constrained(
    'URI: an address for a host',
    only(6, 'example.org'),
    { uris: ['spiffe://10.0.0.1/x'] },
    {
      error: 'cannot be matched',
    },
  )
  await constrained(
    'URI: no host at all',
    only(6, 'example.org'),
    { uris: ['urn:example:web'] },
    {
      error: 'cannot be matched',
    },
  )
  await constrained('DNS constraints do not concern URIs', only(2, 'example.com'), { uris: WEB })
  await constrained('DNS: below the permitted domain', only(2, 'example.org'), { dnsNames: ['web.example.org'] })
  await constrained(
    'DNS: another domain',
    only(2, 'example.org'),
    { dnsNames: ['web.example.com'] },
    { error: NOT_PERMITTED },
  )
  await constrained('DNS: below what has a leading dot', only(2, '.example.org'), { dnsNames: ['web.example.org'] })
  await constrained(
    'DNS: a host that ends alike',
    only(2, '.ample.org'),
    { dnsNames: ['example.org'] },
    { error: NOT_PERMITTED },
  )
  await constrained(
    'DNS: the domain itself is not below it',
    only(2, '.example.org'),
    { dnsNames: ['example.org'] },
    { error: NOT_PERMITTED },
  )
  await constrained(
    'DNS: the domain itself, where all below it is excluded',
    not(2, '.example.org'),
    { dnsNames: ['example.org'] },
    {
      error: EXCLUDED,
      go: { accepts: true, because: 'a leading dot excludes only what is below' },
      openssl: { accepts: true, because: 'a leading dot excludes only what is below' },
    },
  )
  await constrained(
    'DNS: the excluded host',
    not(2, 'web.example.org'),
    { dnsNames: ['web.example.org'] },
    { error: EXCLUDED },
  )
  await constrained(
    'DNS: a wildcard over the excluded host',
    not(2, 'web.example.org'),
    { dnsNames: ['*.example.org'] },
    {
      error: EXCLUDED,
      openssl: { accepts: true, because: 'wildcards are compared as text' },
    },
  )
  await constrained('IP: inside the permitted range', only(7, [10, 0, 0, 0, 255, 0, 0, 0]), { ips: [[10, 1, 2, 3]] })
  await constrained(
    'IP: outside',
    only(7, [10, 0, 0, 0, 255, 0, 0, 0]),
    { ips: [[11, 1, 2, 3]] },
    { error: NOT_PERMITTED },
  )
  await constrained('IP: excluded', not(7, [10, 0, 0, 0, 255, 0, 0, 0]), { ips: [[10, 1, 2, 3]] }, { error: EXCLUDED })

  const rsa = await makeCertificate({ name: 'rsa', ca: true, key: await generateSigner('rsa-2048') }, root)
  const p384 = await makeCertificate({ name: 'p384', ca: true, key: await generateSigner('ec-p384') }, rsa)
  add('keys of three kinds', await makeCertificate({ name: 'leaf', uris: WEB }, p384), [p384, rsa], [root])
})

async function ours({ leaf, intermediates = [], roots }: Case, verify = nodeVerifier()): Promise<string> {
  try {
    await verifyPath({
      leaf: parseCertificate(leaf),
      intermediates: intermediates.map(parseCertificate),
      roots: roots.map(parseCertificate),
      at: AT,
      verify,
    })
    return ''
  } catch (error) {
    return errorMessage(error)
  }
}

test('every chain is judged as expected, with node:crypto and with Web Crypto', async () => {
  for (const row of cases) {
    for (const verify of [nodeVerifier(), webCryptoVerifier()]) {
      const error = await ours(row, verify)
      if (row.error === undefined) expect(error, row.name).toBe('')
      else expect(error, row.name).toContain(row.error)
    }
  }
})

test('OpenSSL agrees, but for what is listed', () => {
  const write = (name: string, list: readonly Uint8Array[]) => {
    writeFileSync(join(folder, name), list.map((der) => encodePem('CERTIFICATE', der)).join(''))
    return join(folder, name)
  }
  const disagreements: string[] = []
  for (const row of cases) {
    const { status } = spawnSync('openssl', [
      'verify',
      '-no-CApath',
      '-no-CAstore',
      '-attime',
      String(AT),
      ...(row.roots.length > 0 ? ['-CAfile', write('roots.pem', row.roots)] : ['-no-CAfile']),
      ...(row.intermediates?.length ? ['-untrusted', write('between.pem', row.intermediates)] : []),
      write('leaf.pem', [row.leaf]),
    ])
    if ((status === 0) !== (row.openssl?.accepts ?? row.error === undefined)) disagreements.push(row.name)
  }
  expect(disagreements).toEqual([])
})

const goMissing = spawnSync('go', ['version']).error !== undefined

test.skipIf(goMissing)('Go agrees, but for what is listed (needs go on the PATH)', { timeout: 120_000 }, () => {
  const base64 = (der: Uint8Array) => Buffer.from(der).toString('base64')
  const input = cases
    .map(({ leaf, intermediates = [], roots }) =>
      JSON.stringify({
        leaf: base64(leaf),
        intermediates: intermediates.map(base64),
        roots: roots.map(base64),
        at: AT,
      }),
    )
    .join('\n')
  const output = execFileSync('go', ['run', '.'], {
    cwd: join(import.meta.dirname, '../interop/go/x509verify'),
    env: { ...process.env, GOTOOLCHAIN: 'local', GOFLAGS: '-mod=mod' },
    input,
  })
  const verdicts = output
    .toString()
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { error: string; subject: string })
  expect(verdicts).toHaveLength(cases.length)
  const disagreements = cases.flatMap((row, index) => {
    const error = verdicts[index]!.error
    return (error === '') === (row.go?.accepts ?? row.error === undefined)
      ? []
      : [`${row.name}: ${error || 'accepted'}`]
  })
  expect(disagreements).toEqual([])
})
