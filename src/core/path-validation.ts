import { type Certificate, KEY_USAGE, parseCertificate } from './certificate.ts'
import type { EpochSeconds } from './clock.ts'
import { equalBytes, hex } from './der.ts'
import { errorMessage, StatusError } from './error.ts'
import { violatedConstraint } from './name-constraints.ts'
import { type VerifySignature, verifyX509Signature } from './public-key.ts'
import { rfc3339 } from './rfc3339.ts'
import { parseSpiffeId, type SpiffeId, trustDomainOf } from './spiffe-id.ts'
import type { TrustDomain } from './trust-domain.ts'

const MAX_DEPTH = 8
/** Bounds the work that a made-up chain can cause. */
const MAX_SIGNATURE_CHECKS = 24
const MAX_CERTIFICATES = 16

export interface PathInput {
  readonly leaf: Certificate
  readonly intermediates: readonly Certificate[]
  readonly roots: readonly Certificate[]
  readonly at: EpochSeconds
  readonly verify: VerifySignature
}

/**
 * Finds a path from the leaf to one of the roots and checks it: signatures, names and key identifiers, validity of every
 * certificate, CA flag, key usage and path length of every issuer, critical extensions, name constraints. Extended key usages are
 * not looked at: an X509-SVID is good for any.
 *
 * @returns the path, leaf first, root last
 * @throws StatusError UNAUTHENTICATED with Go's texts (`x509: certificate signed by unknown authority`, ...)
 * @see RFC 5280 6.1, X509-SVID 5
 */
export async function verifyPath(input: PathInput): Promise<readonly Certificate[]> {
  const [path] = await findPaths(input, 1)
  return path!
}

/**
 * Finds every path that `verifyPath` would take, the shortest of each beginning first. Where there are more than some signature checks can
 * find, those that they did find.
 * @returns at least one
 * @throws StatusError as `verifyPath`
 */
export function verifyPaths(input: PathInput): Promise<readonly (readonly Certificate[])[]> {
  return findPaths(input, Number.POSITIVE_INFINITY)
}

async function findPaths(input: PathInput, most: number): Promise<readonly (readonly Certificate[])[]> {
  checkTime(input.leaf, input.at)
  checkCritical(input.leaf)
  const search: Search = { ...input, checks: MAX_SIGNATURE_CHECKS, error: undefined }
  const paths: (readonly Certificate[])[] = []
  for await (const path of extend([input.leaf], search)) {
    paths.push(path)
    if (paths.length >= most) break
  }
  if (paths.length > 0) return paths
  throw search.error ?? untrusted('x509: certificate signed by unknown authority')
}

interface Search extends PathInput {
  /** Signature checks that are left. */
  checks: number
  /** The first real objection. */
  error: StatusError | undefined
}

/** Depth first: roots before intermediates, so that the shortest path comes first. */
async function* extend(path: readonly Certificate[], search: Search): AsyncGenerator<readonly Certificate[]> {
  const child = path[path.length - 1]!
  for (const root of search.roots) {
    const objection = await objectionTo(root, child, path, search)
    if (objection === undefined) {
      const whole = [...path, root]
      const violated = violatedConstraint(whole)
      if (violated === undefined) yield whole
      else search.error ??= untrusted(violated)
    } else if (objection !== NOT_ISSUER) search.error ??= objection
  }
  if (path.length >= MAX_DEPTH) {
    search.error ??= untrusted('x509: too many intermediates for path length constraint')
    return
  }
  for (const candidate of search.intermediates) {
    if (path.some((used) => equalBytes(used.der, candidate.der))) continue
    const objection = await objectionTo(candidate, child, path, search)
    if (objection === undefined) yield* extend([...path, candidate], search)
    else if (objection !== NOT_ISSUER) search.error ??= objection
  }
}

const NOT_ISSUER = Symbol('not the issuer')

/** Why `issuer` cannot have issued the end of the path; undefined if it did. Cheap checks come first, the signature last. */
async function objectionTo(
  issuer: Certificate,
  child: Certificate,
  path: readonly Certificate[],
  search: Search,
): Promise<StatusError | typeof NOT_ISSUER | undefined> {
  if (!equalBytes(issuer.subject, child.issuer)) return NOT_ISSUER
  if (child.authorityKeyId && issuer.subjectKeyId && !equalBytes(child.authorityKeyId, issuer.subjectKeyId))
    return NOT_ISSUER
  try {
    checkTime(issuer, search.at)
    checkCritical(issuer)
  } catch (error) {
    if (error instanceof StatusError) return error
    throw error
  }
  if (!issuer.isCa) return untrusted('x509: invalid signature: parent certificate cannot sign this kind of certificate')
  if (issuer.keyUsage !== undefined && !(issuer.keyUsage & KEY_USAGE.keyCertSign)) {
    return untrusted('x509: invalid signature: parent certificate cannot sign this kind of certificate')
  }
  // Self-issued certificates do not count (RFC 5280 6.1.4 (l)); the leaf never does.
  const between = path.slice(1).filter((certificate) => !equalBytes(certificate.subject, certificate.issuer)).length
  if (issuer.pathLength !== undefined && between > issuer.pathLength) {
    return untrusted('x509: too many intermediates for path length constraint')
  }
  if (search.checks === 0)
    return untrusted('x509: signature check attempts limit reached while verifying certificate chain')
  search.checks -= 1
  try {
    const good = await verifyX509Signature(
      search.verify,
      issuer.spki,
      child.signatureAlgorithm,
      child.tbs,
      child.signature,
    )
    return good ? undefined : untrusted('x509: certificate signed by unknown authority')
  } catch (error) {
    if (error instanceof StatusError) return untrusted(error.message)
    throw error
  }
}

function checkTime(certificate: Certificate, at: EpochSeconds): void {
  const expired = at > certificate.notAfter
  if (!expired && at >= certificate.notBefore) return
  const now = rfc3339(at)
  throw untrusted(
    `x509: certificate has expired or is not yet valid: current time ${now} is ${
      expired ? `after ${rfc3339(certificate.notAfter)}` : `before ${rfc3339(certificate.notBefore)}`
    }`,
  )
}

function checkCritical(certificate: Certificate): void {
  if (certificate.unknownCritical.length > 0) throw untrusted('x509: unhandled critical extension')
}

function untrusted(message: string): StatusError {
  return new StatusError('UNAUTHENTICATED', message)
}

export interface X509SvidInput {
  /** DER, leaf first. */
  readonly chain: readonly Uint8Array[]
  /** Roots (parsed) of the bundle of a trust domain; undefined if there is none. */
  readonly rootsOf: (trustDomain: TrustDomain) => readonly Certificate[] | undefined
  readonly at: EpochSeconds
  readonly verify: VerifySignature
}

export interface VerifiedX509Svid {
  readonly spiffeId: SpiffeId
  readonly leaf: Certificate
  /** Leaf first, root last. */
  readonly path: readonly Certificate[]
}

/**
 * Verifies an X509-SVID against the bundle of its own trust domain.
 * @throws StatusError UNAUTHENTICATED
 * @see X509-SVID 5.2
 */
export async function verifyX509Svid(input: X509SvidInput): Promise<VerifiedX509Svid> {
  if (input.chain.length === 0) throw untrusted('empty certificates chain')
  if (input.chain.length > MAX_CERTIFICATES) throw untrusted('x509: too many certificates in the chain')
  const [leaf, ...intermediates] = input.chain.map(parseCertificate) as [Certificate, ...Certificate[]]
  const spiffeId = leafSpiffeId(leaf)
  const roots = input.rootsOf(trustDomainOf(spiffeId))
  if (!roots)
    throw untrusted(`could not get X509 bundle: no X.509 bundle for trust domain "${trustDomainOf(spiffeId)}"`)
  const path = await verifyPath({ leaf, intermediates, roots, at: input.at, verify: input.verify })
  return { spiffeId, leaf, path }
}

/**
 * The SPIFFE ID of a leaf, which must be one: a single URI SAN, not a CA, fit for digital signatures, not for signing
 * certificates or CRLs.
 * @throws StatusError UNAUTHENTICATED
 * @see X509-SVID 2, 4 and 5.2
 */
export function leafSpiffeId(leaf: Certificate): SpiffeId {
  const [uri, ...more] = leaf.uris
  if (uri === undefined) throw untrusted('could not get leaf SPIFFE ID: certificate contains no URI SAN')
  if (more.length > 0) throw untrusted('could not get leaf SPIFFE ID: certificate contains more than one URI SAN')
  let spiffeId: SpiffeId
  try {
    spiffeId = parseSpiffeId(uri)
  } catch (error) {
    throw new StatusError('UNAUTHENTICATED', `could not get leaf SPIFFE ID: ${errorMessage(error)}`, { cause: error })
  }
  if (leaf.isCa) throw untrusted('leaf certificate with CA flag set to true')
  const usage = leaf.keyUsage ?? 0
  if (usage & KEY_USAGE.keyCertSign) throw untrusted('leaf certificate with KeyCertSign key usage')
  if (usage & KEY_USAGE.crlSign) throw untrusted('leaf certificate with KeyCrlSign key usage')
  if (!(usage & KEY_USAGE.digitalSignature)) throw untrusted('leaf certificate without digitalSignature key usage')
  return spiffeId
}

/** Hex of the key identifier that names the authority which issued a certificate. */
export function issuingKeyId(certificate: Certificate): string {
  return certificate.authorityKeyId ? hex(certificate.authorityKeyId) : ''
}
