import type { Bundle, X509Authority } from '../core/bundle.ts'
import { parseCertificate } from '../core/certificate.ts'
import { hex } from '../core/der.ts'
import { StatusError } from '../core/error.ts'
import { subjectKeyId } from '../core/public-key.ts'

/** The hex key id by which a root is known: the one it states, else that of its key. */
export function rootKeyId(root: X509Authority): string {
  const { subjectKeyId: stated, spki } = parseCertificate(root.der)
  return hex(stated ?? subjectKeyId(spki))
}

const found = new WeakMap<Bundle, readonly string[]>()

/** Hex key ids of the roots that are tainted; worked out once for each version of a bundle. */
export function taintedRootKeyIds(bundle: Bundle): readonly string[] {
  let ids = found.get(bundle)
  if (!ids) {
    ids = bundle.x509Authorities.filter((root) => root.tainted).map(rootKeyId)
    found.set(bundle, ids)
  }
  return ids
}

/** The bundle with these roots marked as tainted, in its next version. */
export function withTaintedRoots(bundle: Bundle, keyIds: ReadonlySet<string>): Bundle {
  const x509Authorities = bundle.x509Authorities.map((root) =>
    keyIds.has(rootKeyId(root)) ? { ...root, tainted: true } : root,
  )
  return { ...bundle, x509Authorities, sequenceNumber: bundle.sequenceNumber + 1 }
}

/** @throws StatusError with the texts of SPIRE's data store */
export function taintRoot(bundle: Bundle, keyId: string): Bundle {
  const roots = rootsOf(bundle, keyId)
  if (roots.length === 0) throw new StatusError('NOT_FOUND', 'no ca found with provided subject key ID')
  if (roots.every(({ tainted }) => tainted)) throw new StatusError('INVALID_ARGUMENT', 'root CA is already tainted')
  return withTaintedRoots(bundle, new Set([keyId]))
}

/** A key may have been certified more than once: it is tainted and revoked in all its certificates. */
function rootsOf(bundle: Bundle, keyId: string): readonly X509Authority[] {
  return bundle.x509Authorities.filter((root) => rootKeyId(root) === keyId)
}

/** The bundle without a tainted root. @throws StatusError with the texts of SPIRE's data store */
export function revokeRoot(bundle: Bundle, keyId: string): Bundle {
  const roots = rootsOf(bundle, keyId)
  if (roots.length === 0) throw new StatusError('NOT_FOUND', 'no root CA found with provided subject key ID')
  if (!roots.every(({ tainted }) => tainted))
    throw new StatusError('INVALID_ARGUMENT', 'it is not possible to revoke an untainted root CA')
  const x509Authorities = bundle.x509Authorities.filter((candidate) => !roots.includes(candidate))
  return { ...bundle, x509Authorities, sequenceNumber: bundle.sequenceNumber + 1 }
}

/** @throws StatusError with the texts of SPIRE's data store */
export function taintJwtKey(bundle: Bundle, keyId: string): Bundle {
  const key = bundle.jwtAuthorities.find((candidate) => candidate.keyId === keyId)
  if (!key) throw new StatusError('NOT_FOUND', 'no JWT Key found with provided key ID')
  if (key.tainted) throw new StatusError('INVALID_ARGUMENT', 'key is already tainted')
  const jwtAuthorities = bundle.jwtAuthorities.map((other) => (other === key ? { ...key, tainted: true } : other))
  return { ...bundle, jwtAuthorities, sequenceNumber: bundle.sequenceNumber + 1 }
}

/** The bundle without a tainted key. @throws StatusError with the texts of SPIRE's data store */
export function revokeJwtKey(bundle: Bundle, keyId: string): Bundle {
  const key = bundle.jwtAuthorities.find((candidate) => candidate.keyId === keyId)
  if (!key) throw new StatusError('NOT_FOUND', 'no JWT Key found with provided key ID')
  if (!key.tainted) throw new StatusError('INVALID_ARGUMENT', 'it is not possible to revoke an untainted key')
  const jwtAuthorities = bundle.jwtAuthorities.filter((other) => other !== key)
  return { ...bundle, jwtAuthorities, sequenceNumber: bundle.sequenceNumber + 1 }
}
