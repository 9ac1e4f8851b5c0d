import type { X509Authority } from '../core/bundle.ts'
import { parseCertificate } from '../core/certificate.ts'
import type { EpochSeconds } from '../core/clock.ts'
import { equalBytes } from '../core/der.ts'
import { errorMessage, StatusError } from '../core/error.ts'
import { verifyX509Svid } from '../core/path-validation.ts'
import type { VerifySignature } from '../core/public-key.ts'
import { trustDomainId } from '../core/spiffe-id.ts'
import type { TrustDomain } from '../core/trust-domain.ts'
import { issuerOf, randomSerial, signCertificate } from '../core/x509-svid.ts'
import type { X509Ca } from './ca.ts'

export interface MintedCaCheck {
  readonly trustDomain: TrustDomain
  readonly upstreamRoots: readonly X509Authority[]
  readonly now: EpochSeconds
  readonly verify: VerifySignature
  readonly random: (bytes: Uint8Array) => Uint8Array
}

/**
 * A CA that an upstream minted must be able to sign what verifies; found out now with an SVID that is thrown away, not later by
 * workloads.
 * @throws StatusError INTERNAL `X509 CA minted by upstream authority is invalid: ...`
 */
export async function checkMintedCa(authority: X509Ca, check: MintedCaCheck): Promise<void> {
  const { certificate, signer, upstreamChain } = authority
  const { now, verify, random } = check
  const uri = trustDomainId(check.trustDomain)
  try {
    if (!certificate.isCa) throw new Error('invalid upstream-signed X509 CA: it is not a CA')
    if (!equalBytes(certificate.spki, signer.publicKey))
      throw new Error('invalid upstream-signed X509 CA: it is not for our key')
    if (certificate.uris.length > 1 || (certificate.uris[0] ?? uri) !== uri) {
      throw new Error(`invalid upstream-signed X509 CA: URI SAN "${certificate.uris.join(' ')}" is not "${uri}"`)
    }
    const leaf = await signCertificate(
      {
        kind: 'svid',
        serial: randomSerial(random),
        subject: certificate.subject,
        spki: signer.publicKey,
        notBefore: now - 10,
        notAfter: certificate.notAfter,
        uri: `${uri}/spire/throwaway`,
      },
      issuerOf(signer, certificate.subject, certificate.subjectKeyId),
    )
    const roots = check.upstreamRoots.map((root) => parseCertificate(root.der))
    await verifyX509Svid({ chain: [leaf, ...upstreamChain], rootsOf: () => roots, at: now, verify }).catch((error) => {
      throw new Error(`X509 CA produced an invalid X509-SVID chain: ${errorMessage(error)}`)
    })
  } catch (error) {
    throw new StatusError('INTERNAL', `X509 CA minted by upstream authority is invalid: ${errorMessage(error)}`, {
      cause: error,
    })
  }
}
