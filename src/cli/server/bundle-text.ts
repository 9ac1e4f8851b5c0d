import type { Bundle, JWTKey } from '../../../proto/spire/api/types.ts'
import type { Bundle as CoreBundle, JwtAuthority } from '../../core/bundle.ts'
import { encodePem } from '../../core/pem.ts'
import { parseTrustDomain } from '../../core/trust-domain.ts'
import { complaining } from '../arguments.ts'
import { CommandError } from '../failure.ts'

export type BundleFormat = 'pem' | 'spiffe'

const BANNER = '****************************************'

/**
 * Reads a format flag; empty is PEM, case does not matter.
 * @throws CommandError
 */
export function bundleFormat(value: string): BundleFormat {
  const format = value.toLowerCase()
  if (format === 'spiffe') return 'spiffe'
  if (format === 'pem' || format === '') return 'pem'
  throw new CommandError(`invalid format: ${JSON.stringify(format)}`)
}

/** A bundle as PEM or as a SPIFFE bundle document, under a banner with its trust domain if asked for. */
export async function bundleText(bundle: Bundle, format: BundleFormat, banner: boolean): Promise<string> {
  const head = banner ? `${BANNER}\n* ${bundle.trustDomain}\n${BANNER}\n` : ''
  if (format === 'pem') return head + bundle.x509Authorities.map(({ asn1 }) => encodePem('CERTIFICATE', asn1)).join('')
  const { bundleDocument } = await import('../../core/bundle-document.ts')
  const content: CoreBundle = {
    trustDomain: parseTrustDomain(bundle.trustDomain),
    x509Authorities: bundle.x509Authorities.map(({ asn1, tainted }) => ({ der: asn1, tainted })),
    jwtAuthorities: bundle.jwtAuthorities.map(({ keyId, publicKey, expiresAt, tainted }) => ({
      keyId,
      publicKey,
      expiresAt,
      tainted,
    })),
    witAuthorities: [],
    refreshHintSeconds: bundle.refreshHint,
    sequenceNumber: bundle.sequenceNumber,
  }
  return `${head}${bundleDocument(content)}\n`
}

/**
 * Reads a bundle from a user's file.
 * @param id the trust domain, as a name or an ID; checked only for the SPIFFE format, else by the server
 * @throws CommandError
 */
export async function bundleFromText(data: Uint8Array, format: BundleFormat, id: string): Promise<Bundle> {
  const text = new TextDecoder().decode(data)
  if (format === 'pem') {
    return { ...NO_AUTHORITIES, trustDomain: id, x509Authorities: await rootsFromPem(text) }
  }
  const trustDomain = parseTrustDomain(id)
  const { parseBundleDocument } = await import('../../core/bundle-document.ts')
  const bundle = complaining('unable to parse to spiffe bundle', () => {
    if (text.trim() === '') throw new CommandError('spiffebundle: unable to parse JWKS: unexpected end of JSON input')
    return complaining('spiffebundle', () => parseBundleDocument(trustDomain, text))
  })
  return {
    trustDomain,
    x509Authorities: bundle.x509Authorities.map(({ der }) => ({ asn1: der, tainted: false })),
    jwtAuthorities: bundle.jwtAuthorities.map(keyMessage),
    witAuthorities: [],
    refreshHint: bundle.refreshHintSeconds,
    sequenceNumber: bundle.sequenceNumber,
  }
}

const NO_AUTHORITIES: Omit<Bundle, 'trustDomain' | 'x509Authorities'> = {
  jwtAuthorities: [],
  witAuthorities: [],
  refreshHint: 0,
  sequenceNumber: 0,
}

function keyMessage({ keyId, publicKey }: JwtAuthority): JWTKey {
  return { keyId, publicKey, expiresAt: 0, tainted: false }
}

async function rootsFromPem(text: string): Promise<Bundle['x509Authorities']> {
  const [{ decodePem }, { parseCertificate }] = await Promise.all([
    import('../../core/pem.ts'),
    import('../../core/certificate.ts'),
  ])
  return complaining('unable to parse bundle data', () => {
    const blocks = decodePem(text)
    if (blocks.length === 0) throw new CommandError('no PEM blocks')
    return blocks.map(({ label, bytes }) => {
      if (label !== 'CERTIFICATE') {
        throw new CommandError(`expected block type "CERTIFICATE"; got ${JSON.stringify(label)}`)
      }
      parseCertificate(bytes)
      return { asn1: bytes, tainted: false }
    })
  })
}
