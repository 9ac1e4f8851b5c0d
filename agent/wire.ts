import type { Bundle as WireBundle } from '../proto/spire/api/types.ts'
import type { Bundle } from '../src/core/bundle.ts'
import { type Certificate, parseCertificate } from '../src/core/certificate.ts'
import { equalBytes, hex } from '../src/core/der.ts'
import { subjectKeyId } from '../src/core/public-key.ts'
import { parseTrustDomain } from '../src/core/trust-domain.ts'

/**
 * Reads a bundle from the server.
 * @throws StatusError INVALID_ARGUMENT if a root is no certificate
 */
export function parseBundle(bundle: WireBundle): Bundle {
  for (const { asn1 } of bundle.x509Authorities) parseCertificate(asn1)
  return {
    trustDomain: parseTrustDomain(bundle.trustDomain),
    x509Authorities: bundle.x509Authorities.map(({ asn1, tainted }) => ({ der: asn1, tainted })),
    jwtAuthorities: bundle.jwtAuthorities.map(({ publicKey, keyId, expiresAt, tainted }) => ({
      publicKey,
      keyId,
      expiresAt,
      tainted,
    })),
    witAuthorities: bundle.witAuthorities.map(({ publicKey, keyId, expiresAt, tainted }) => ({
      publicKey,
      keyId,
      expiresAt,
      tainted,
    })),
    refreshHintSeconds: bundle.refreshHint,
    sequenceNumber: bundle.sequenceNumber,
  }
}

/** Whether two bundles say the same to workloads and to the agent. The sequence number alone is no difference. */
export function sameBundle(a: Bundle, b: Bundle): boolean {
  return (
    a.trustDomain === b.trustDomain &&
    a.x509Authorities.length === b.x509Authorities.length &&
    a.x509Authorities.every((root, index) => {
      const other = b.x509Authorities[index]!
      return root.tainted === other.tainted && equalBytes(root.der, other.der)
    }) &&
    sameKeys(a.jwtAuthorities, b.jwtAuthorities) &&
    sameKeys(a.witAuthorities, b.witAuthorities)
  )
}

function sameKeys(a: Bundle['jwtAuthorities'], b: Bundle['jwtAuthorities']): boolean {
  return (
    a.length === b.length &&
    a.every((key, index) => {
      const other = b[index]!
      return key.keyId === other.keyId && key.tainted === other.tainted && equalBytes(key.publicKey, other.publicKey)
    })
  )
}

/** By their keys, the roots of a bundle, and whether one is tainted. */
export function rootsByKey(bundle: Bundle): ReadonlyMap<string, boolean> {
  const roots = new Map<string, boolean>()
  for (const { der, tainted } of bundle.x509Authorities) {
    const key = keyOf(parseCertificate(der))
    roots.set(key, tainted || roots.get(key) === true)
  }
  return roots
}

const keys = new WeakMap<Certificate, string>()

/** The key of a root, as text. */
export function keyOf(root: Certificate): string {
  let key = keys.get(root)
  if (key === undefined) {
    key = hex(root.spki)
    keys.set(root, key)
  }
  return key
}
/** Hex subject key ids of the tainted roots. */
export function taintedRoots(bundle: Bundle): string[] {
  return bundle.x509Authorities
    .filter((root) => root.tainted)
    .map(({ der }) => {
      const { subjectKeyId: stated, spki } = parseCertificate(der)
      return hex(stated ?? subjectKeyId(spki))
    })
}
