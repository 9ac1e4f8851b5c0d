import { type GeneralName, namesOf, readGeneralNames } from './certificate.ts'
import {
  bitString,
  DerError,
  DerReader,
  element,
  octetString,
  oid,
  readBitString,
  readBoolean,
  readOid,
  readSmallInteger,
  sequence,
  TAG,
  utf8,
} from './der.ts'
import { ecdsaRawToDer } from './ecdsa.ts'
import { StatusError } from './error.ts'
import type { Signer } from './key-type.ts'
import {
  isEcdsa,
  parsePublicKey,
  readSignatureAlgorithm,
  signatureAlgorithmIdentifier,
  type VerifySignature,
  verifyX509Signature,
} from './public-key.ts'

/** A parsed PKCS#10 request. RFC 2986. */
export interface Csr {
  /** DER of the subject Name. */
  readonly subject: Uint8Array
  /** DER SubjectPublicKeyInfo. */
  readonly spki: Uint8Array
  readonly uris: readonly string[]
  readonly dnsNames: readonly string[]
  /** What the signature covers. */
  readonly info: Uint8Array
  readonly signatureAlgorithm: string
  readonly signature: Uint8Array
}

const MAX_CSR_BYTES = 64 * 1024
const OID_EXTENSION_REQUEST = '1.2.840.113549.1.9.14'
const OID_SUBJECT_ALT_NAME = '2.5.29.17'

/**
 * Parses a request. The signature is not verified here.
 * @throws DerError (INVALID_ARGUMENT) if it is malformed or its key is of a kind that is not taken
 */
export function parseCsr(der: Uint8Array): Csr {
  if (der.length > MAX_CSR_BYTES) throw new DerError('CSR is larger than 64 KiB')
  const outer = new DerReader(der)
  const request = outer.enter(TAG.sequence)
  outer.end()
  const infoElement = request.expect(TAG.sequence)
  const signatureAlgorithm = readSignatureAlgorithm(request.enter(TAG.sequence))
  const signature = readBitString(request.expect(TAG.bitString))
  request.end()

  const info = request.into(infoElement)
  if (readSmallInteger(info.expect(TAG.integer)) !== 0) throw new DerError('CSR is not version 1')
  const subject = info.expect(TAG.sequence).raw
  const spki = info.expect(TAG.sequence).raw
  parsePublicKey(spki)
  const names: GeneralName[] = []
  const attributes = info.optional(0xa0)
  const seen = new Set<string>()
  if (attributes) {
    const list = info.into(attributes)
    while (!list.done) {
      const attribute = list.enter(TAG.sequence)
      if (readOid(attribute.expect(TAG.oid)) !== OID_EXTENSION_REQUEST) continue
      // Of several values Go takes the first: whoever reads all of them would read another request.
      const values = attribute.enter(TAG.set)
      attribute.end()
      const extensions = values.enter(TAG.sequence)
      values.end()
      while (!extensions.done) {
        const extension = extensions.enter(TAG.sequence)
        const name = readOid(extension.expect(TAG.oid))
        const critical = extension.optional(TAG.boolean)
        if (critical) readBoolean(critical)
        const value = extension.expect(TAG.octetString)
        extension.end()
        if (seen.has(name)) throw new DerError('CSR repeats an extension')
        seen.add(name)
        if (name !== OID_SUBJECT_ALT_NAME) continue
        const inner = extension.into(value)
        names.push(...readGeneralNames(inner.enter(TAG.sequence)))
        inner.end()
      }
    }
  }
  info.end()
  return {
    subject,
    spki,
    uris: namesOf(names, 6),
    dnsNames: namesOf(names, 2),
    info: infoElement.raw,
    signatureAlgorithm,
    signature,
  }
}

/** @throws StatusError INVALID_ARGUMENT, with Go's texts, if the request was not signed by the key it holds */
export async function verifyCsrSignature(csr: Csr, verify: VerifySignature): Promise<void> {
  if (!(await verifyX509Signature(verify, csr.spki, csr.signatureAlgorithm, csr.info, csr.signature))) {
    throw new StatusError('INVALID_ARGUMENT', FAILED[parsePublicKey(csr.spki).kind])
  }
}

const FAILED = {
  ec: 'x509: ECDSA verification failure',
  rsa: 'crypto/rsa: verification error',
  ed25519: 'x509: Ed25519 verification failure',
} as const

export interface CsrFields {
  /** DER of a Name. */
  readonly subject: Uint8Array
  readonly uris?: readonly string[]
  readonly dnsNames?: readonly string[]
}

/** Makes a request signed by a key. */
export async function createCsr(fields: CsrFields, signer: Signer): Promise<Uint8Array> {
  const names = [
    ...(fields.dnsNames ?? []).map((name) => element(0x82, utf8(name))),
    ...(fields.uris ?? []).map((uri) => element(0x86, utf8(uri))),
  ]
  const attributes =
    names.length === 0
      ? []
      : [
          sequence(
            oid(OID_EXTENSION_REQUEST),
            element(TAG.set, sequence(sequence(oid(OID_SUBJECT_ALT_NAME), octetString(sequence(...names))))),
          ),
        ]
  const info = sequence(
    Uint8Array.of(TAG.integer, 1, 0),
    fields.subject,
    signer.publicKey,
    element(0xa0, ...attributes),
  )
  const raw = await signer.sign(info)
  const signature = isEcdsa(signer.keyType) ? ecdsaRawToDer(raw) : raw
  return sequence(info, signatureAlgorithmIdentifier(signer.keyType), bitString(signature))
}
