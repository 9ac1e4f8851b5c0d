import type { EpochSeconds } from './clock.ts'
import { bitString, concat, element, hex, octetString, oid, sequence, TAG, time, unsignedInteger, utf8 } from './der.ts'
import { ecdsaRawToDer } from './ecdsa.ts'
import { StatusError } from './error.ts'
import type { Signer } from './key-type.ts'
import { isEcdsa, signatureAlgorithmIdentifier, subjectKeyId } from './public-key.ts'
import { encodeName } from './x509-name.ts'

/** What a certificate states. Times are whole Unix seconds. */
export interface CertificateProfile {
  readonly kind: 'ca' | 'svid'
  /** 16 bytes, not all zero. */
  readonly serial: Uint8Array
  /** DER of a Name. */
  readonly subject: Uint8Array
  /** DER SubjectPublicKeyInfo. */
  readonly spki: Uint8Array
  readonly notBefore: EpochSeconds
  readonly notAfter: EpochSeconds
  readonly uri: string
  readonly dnsNames?: readonly string[]
  /** OIDs of certificate policies. */
  readonly policies?: readonly string[]
  readonly extraExtensions?: readonly X509Extension[]
}

export interface X509Extension {
  readonly oid: string
  /** DER. */
  readonly value: Uint8Array
  readonly critical: boolean
}

/** Who signs: the parts that are the same in every certificate of one CA, encoded once. */
export interface Issuer {
  readonly signer: Signer
  /** DER of the issuer's subject. */
  readonly name: Uint8Array
  readonly algorithm: Uint8Array
  /** The authority key identifier extension; empty for a certificate that signs itself. */
  readonly authorityKeyId: Uint8Array
}

/** C=US, O=SPIRE: the subject of SVIDs. */
export const SVID_SUBJECT = encodeName({ country: ['US'], organization: ['SPIRE'] })

/** Certificates are good this long before they are made, for peers with slow clocks. */
export const BACKDATE_SECONDS = 10

const MAX_URI_BYTES = 2048
const BOOLEAN_TRUE = Uint8Array.of(TAG.boolean, 1, 0xff)
const VERSION_3 = Uint8Array.of(0xa0, 3, TAG.integer, 1, 2)

function extension(name: string, critical: boolean, value: Uint8Array): Uint8Array {
  return critical ? sequence(oid(name), BOOLEAN_TRUE, octetString(value)) : sequence(oid(name), octetString(value))
}

/** digitalSignature, keyEncipherment, keyAgreement; serverAuth, clientAuth; not a CA. */
const SVID_EXTENSIONS = concat([
  extension('2.5.29.15', true, bitString(Uint8Array.of(0b1010_1000), 3)),
  extension('2.5.29.37', false, sequence(oid('1.3.6.1.5.5.7.3.1'), oid('1.3.6.1.5.5.7.3.2'))),
  extension('2.5.29.19', true, sequence()),
])

/** keyCertSign, cRLSign; a CA without path length. */
const CA_EXTENSIONS = concat([
  extension('2.5.29.15', true, bitString(Uint8Array.of(0b0000_0110), 1)),
  extension('2.5.29.19', true, sequence(BOOLEAN_TRUE)),
])

const SUBJECT_KEY_ID = oid('2.5.29.14')
const SUBJECT_ALT_NAME = oid('2.5.29.17')

/**
 * An issuer whose certificate has this subject.
 * @param keyId subject key identifier of the issuer's certificate; absent while it signs itself
 */
export function issuerOf(signer: Signer, name: Uint8Array, keyId?: Uint8Array): Issuer {
  return {
    signer,
    name,
    algorithm: signatureAlgorithmIdentifier(signer.keyType),
    authorityKeyId: keyId ? extension('2.5.29.35', false, sequence(element(0x80, keyId))) : new Uint8Array(0),
  }
}

/**
 * Encodes the part of a certificate that gets signed. Pure; nothing is kept.
 *
 * @throws StatusError INVALID_ARGUMENT if the SPIFFE ID is longer than 2048 bytes
 * @see SPIFFE-ID 2.3, X509-SVID 2 and 4, RFC 5280 4.1
 */
export function encodeTbs(profile: CertificateProfile, issuer: Issuer): Uint8Array {
  const uri = utf8(profile.uri)
  if (uri.length > MAX_URI_BYTES)
    throw new StatusError('INVALID_ARGUMENT', `SPIFFE ID is longer than ${MAX_URI_BYTES} bytes`)
  const names = (profile.dnsNames ?? []).map((name) => element(0x82, utf8(name)))
  names.push(element(0x86, uri))
  const extensions = element(
    0xa3,
    sequence(
      profile.kind === 'ca' ? CA_EXTENSIONS : SVID_EXTENSIONS,
      sequence(SUBJECT_KEY_ID, octetString(octetString(subjectKeyId(profile.spki)))),
      issuer.authorityKeyId,
      sequence(SUBJECT_ALT_NAME, octetString(sequence(...names))),
      ...moreExtensions(profile),
    ),
  )
  return sequence(
    VERSION_3,
    unsignedInteger(profile.serial),
    issuer.algorithm,
    issuer.name,
    sequence(time(profile.notBefore), time(profile.notAfter)),
    profile.subject,
    profile.spki,
    extensions,
  )
}

function moreExtensions({ policies = [], extraExtensions = [] }: CertificateProfile): Uint8Array[] {
  const stated =
    policies.length === 0
      ? []
      : [extension('2.5.29.32', false, sequence(...policies.map((policy) => sequence(oid(policy)))))]
  return [...stated, ...extraExtensions.map(({ oid, value, critical }) => extension(oid, critical, value))]
}

/** Signs a certificate. @returns DER; the same call twice gives two certificates with the serial of the profile */
export async function signCertificate(profile: CertificateProfile, issuer: Issuer): Promise<Uint8Array> {
  const tbs = encodeTbs(profile, issuer)
  const signed = issuer.signer.sign(tbs)
  const raw = signed instanceof Uint8Array ? signed : await signed
  const signature = isEcdsa(issuer.signer.keyType) ? ecdsaRawToDer(raw) : raw
  return sequence(tbs, issuer.algorithm, bitString(signature))
}

/** A random serial number of 128 bits, never zero. @param random fills the array it gets */
export function randomSerial(random: (bytes: Uint8Array) => Uint8Array): Uint8Array {
  const serial = random(new Uint8Array(16))
  return serial.every((byte) => byte === 0) ? randomSerial(random) : serial
}

/** The decimal text of a serial number. */
export function serialDecimal(serial: Uint8Array): string {
  return BigInt(`0x${hex(serial)}`).toString()
}
