import { createHash } from 'node:crypto'
import { parseCertificate } from '../../../src/core/certificate.ts'
import { DerReader, hex, readBoolean, readOid, readText, TAG } from '../../../src/core/der.ts'

/**
 * A certificate as text, all of it but what no two servers have in common: serial numbers, the moments of its life (its length
 * stays), key identifiers, the signature, and keys that are not among the inputs.
 */
export function describeCertificate(der: Uint8Array, inputs: ReadonlySet<string>): readonly string[] {
  const certificate = parseCertificate(der)
  return [
    `subject ${name(certificate.subject)}`,
    `issuer ${name(certificate.issuer)}`,
    `lives ${certificate.notAfter - certificate.notBefore} s`,
    `key ${keyName(certificate.spki, inputs)}`,
    ...extensions(certificate.tbs),
    `signed by ${certificate.signatureAlgorithm}`,
  ]
}

/** What a key, or the first number of a JWK, is known by. */
export function digest(key: Uint8Array | string): string {
  return createHash('sha256').update(key).digest('hex').slice(0, 16)
}

/** Keys among the inputs by their digest; others are made anew by every server. */
function keyName(spki: Uint8Array, inputs: ReadonlySet<string>): string {
  return inputs.has(digest(spki)) ? digest(spki) : `anew, ${spki.length} bytes`
}

/** Header and payload of a token, without the signature, the key and the moments of its life. */
export function describeToken(token: string, inputs: ReadonlySet<string>): unknown {
  const [header, payload] = token.split('.', 2).map((part) => JSON.parse(Buffer.from(part, 'base64url').toString()))
  const { iat, exp, jti, ...claims } = payload
  if (claims.cnf?.jwk) claims.cnf = { jwk: keyOfJwk(claims.cnf.jwk, inputs) }
  return {
    header: { ...header, kid: typeof header.kid },
    claims: { ...claims, ...(jti === undefined ? {} : { jti: typeof jti }) },
    lives: `${exp - iat} s`,
  }
}

function keyOfJwk(jwk: Record<string, string>, inputs: ReadonlySet<string>): unknown {
  const { kty, crv, alg } = jwk
  const key = digest(jwk.x ?? jwk.n ?? '')
  return { kty, ...(crv ? { crv } : {}), ...(alg ? { alg } : {}), key: inputs.has(key) ? key : 'anew' }
}

/** The serial number of an authority's name is random. */
const SERIAL_NUMBER = '2.5.4.5'

function name(der: Uint8Array): string {
  const found: string[] = []
  const sets = new DerReader(der).enter(TAG.sequence)
  while (!sets.done) {
    const set = sets.enter(TAG.set)
    while (!set.done) {
      const attribute = set.enter(TAG.sequence)
      const oid = readOid(attribute.expect(TAG.oid))
      const value = readText(attribute.next())
      found.push(`${oid}=${oid === SERIAL_NUMBER ? '*' : value}`)
    }
  }
  return found.join(', ')
}

const KEY_IDENTIFIERS = new Set(['2.5.29.14', '2.5.29.35'])

/** Extensions in their order, `!` for critical, contents in hexadecimal. */
function extensions(tbsDer: Uint8Array): string[] {
  const found: string[] = []
  const tbs = new DerReader(tbsDer).enter(TAG.sequence)
  while (!tbs.done) {
    const element = tbs.next()
    if (element.tag !== 0xa3) continue
    const list = new DerReader(element.contents).enter(TAG.sequence)
    while (!list.done) {
      const extension = list.enter(TAG.sequence)
      const oid = readOid(extension.expect(TAG.oid))
      const critical = extension.optional(TAG.boolean)
      const value = extension.expect(TAG.octetString).contents
      const contents = KEY_IDENTIFIERS.has(oid) ? `${value.length} bytes` : hex(value)
      found.push(`${oid}${critical && readBoolean(critical) ? '!' : ''} ${contents}`)
    }
  }
  return found
}

const MOMENTS = new Set(['expiresAt', 'issuedAt', 'createdAt', 'x509svidExpiresAt'])
const UUID = /[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g
/** Identifiers of authorities: of keys in hexadecimal, of JWT keys in letters and digits. */
const AUTHORITY = /\b([0-9a-f]{40}|[A-Za-z0-9]{32})\b/g
/** A moment that the inputs name. */
export const FAR_AWAY = 4_000_000_000

/** A message without what differs from run to run. */
export function maskMessage(value: unknown, inputs: ReadonlySet<string>, key = ''): unknown {
  if (value instanceof Uint8Array) return describeBytes(value, inputs)
  if (Array.isArray(value)) return value.map((item) => maskMessage(item, inputs, key))
  if (key === 'uptime') return 'a while'
  if (typeof value === 'number' && MOMENTS.has(key)) return value === 0 || value === FAR_AWAY ? value : 'a moment'
  if (typeof value === 'string') {
    if (value.startsWith('eyJ')) return describeToken(value, inputs)
    if (key === 'x509svidSerialNumber' || key === 'cursor') return value === '' ? '' : '*'
    return value
      .replace(UUID, 'a-uuid')
      .replace(AUTHORITY, 'an-authority')
      .replace(/serialNumber=\d+/i, 'serialNumber=*')
  }
  if (typeof value === 'object' && value !== null) {
    const entries = Object.entries(value).filter(([, item]) => item !== undefined)
    return Object.fromEntries(entries.map(([name, item]) => [name, maskMessage(item, inputs, name)]))
  }
  return value
}

function describeBytes(value: Uint8Array, inputs: ReadonlySet<string>): unknown {
  if (value.length === 0) return ''
  try {
    return describeCertificate(value, inputs)
  } catch {
    return keyName(value, inputs)
  }
}
