import type { EpochSeconds } from './clock.ts'
import {
  type DerElement,
  DerError,
  DerReader,
  equalBytes,
  hex,
  readBitString,
  readBits,
  readBoolean,
  readInteger,
  readOid,
  readSmallInteger,
  readText,
  readTime,
  TAG,
} from './der.ts'
import { StatusError } from './error.ts'
import { readSignatureAlgorithm } from './public-key.ts'

/** Bits of the key usage extension, in the order of RFC 5280 4.2.1.3 (digitalSignature is bit 0). */
export const KEY_USAGE = {
  digitalSignature: 1 << 0,
  keyEncipherment: 1 << 2,
  keyAgreement: 1 << 4,
  keyCertSign: 1 << 5,
  crlSign: 1 << 6,
} as const

export interface NameConstraints {
  readonly permitted: readonly GeneralName[]
  readonly excluded: readonly GeneralName[]
}

/** A GeneralName: its context tag number (1 email, 2 DNS, 4 directory, 6 URI, 7 IP) and contents. */
export interface GeneralName {
  readonly type: number
  readonly value: Uint8Array
}

/** One attribute of a name, in the order of the encoding. */
export interface NameAttribute {
  readonly oid: string
  readonly value: string
  /** DER of the value. */
  readonly encoded: Uint8Array
}

/** A parsed certificate. Byte fields are views into `der`. */
export interface Certificate {
  readonly der: Uint8Array
  readonly tbs: Uint8Array
  /** A name out of SIGNATURE_ALGORITHMS, or the OID of another algorithm. */
  readonly signatureAlgorithm: string
  readonly signature: Uint8Array
  /** Big-endian contents of the INTEGER. */
  readonly serial: Uint8Array
  /** DER of the Name. */
  readonly issuer: Uint8Array
  readonly subject: Uint8Array
  readonly notBefore: EpochSeconds
  readonly notAfter: EpochSeconds
  /** DER SubjectPublicKeyInfo. */
  readonly spki: Uint8Array
  readonly isCa: boolean
  readonly basicConstraintsPresent: boolean
  readonly pathLength: number | undefined
  /** Bits as in KEY_USAGE; undefined without the extension. */
  readonly keyUsage: number | undefined
  /** OIDs; undefined without the extension. */
  readonly extendedKeyUsage: readonly string[] | undefined
  readonly subjectKeyId: Uint8Array | undefined
  readonly authorityKeyId: Uint8Array | undefined
  readonly subjectAltNames: readonly GeneralName[]
  readonly uris: readonly string[]
  readonly dnsNames: readonly string[]
  readonly nameConstraints: NameConstraints | undefined
  /** OIDs of critical extensions that nobody here understands. */
  readonly unknownCritical: readonly string[]
}

const MAX_CERTIFICATE_BYTES = 64 * 1024
const MAX_EXTENSIONS = 64

/**
 * Parses one certificate.
 * @throws StatusError INVALID_ARGUMENT `x509: malformed certificate` for anything that is not one; the cause says what
 * @see RFC 5280 4.1
 */
export function parseCertificate(der: Uint8Array): Certificate {
  if (der.length > MAX_CERTIFICATE_BYTES) throw malformed(new DerError('certificate is larger than 64 KiB'))
  try {
    return read(der)
  } catch (error) {
    if (error instanceof DerError) throw malformed(error)
    throw error
  }
}

/** Parses certificates that follow one another in one byte string, as the Workload API carries chains. */
export function parseCertificates(der: Uint8Array): Certificate[] {
  const found: Certificate[] = []
  try {
    const reader = new DerReader(der)
    while (!reader.done) found.push(parseCertificate(reader.next().raw))
  } catch (error) {
    if (error instanceof DerError) throw malformed(error)
    throw error
  }
  return found
}

function malformed(cause: DerError): StatusError {
  return new StatusError('INVALID_ARGUMENT', 'x509: malformed certificate', { cause })
}

function read(der: Uint8Array): Certificate {
  const outer = new DerReader(der)
  const certificate = outer.enter(TAG.sequence)
  outer.end()
  const tbsElement = certificate.expect(TAG.sequence)
  const algorithm = certificate.expect(TAG.sequence)
  const signature = readBitString(certificate.expect(TAG.bitString))
  certificate.end()

  const tbs = certificate.into(tbsElement)
  const version = tbs.optional(0xa0)
  if (!version || readSmallInteger(single(version)) !== 2) throw new DerError('certificate is not version 3')
  const serial = readInteger(tbs.expect(TAG.integer))
  if (serial[0]! >= 0x80) throw new DerError('certificate has a negative serial number')
  const innerAlgorithm = tbs.expect(TAG.sequence)
  if (!equalBytes(innerAlgorithm.raw, algorithm.raw)) throw new DerError('certificate names two signature algorithms')
  const issuer = tbs.expect(TAG.sequence)
  const validity = tbs.enter(TAG.sequence)
  const notBefore = readTime(validity.next())
  const notAfter = readTime(validity.next())
  validity.end()
  const subject = tbs.expect(TAG.sequence)
  const spki = tbs.expect(TAG.sequence)
  tbs.optional(0x81)
  tbs.optional(0x82)
  const extensions = tbs.optional(0xa3)
  tbs.end()

  return {
    der,
    tbs: tbsElement.raw,
    signatureAlgorithm: readSignatureAlgorithm(new DerReader(algorithm.contents)),
    signature,
    serial,
    issuer: issuer.raw,
    subject: subject.raw,
    notBefore,
    notAfter,
    spki: spki.raw,
    ...readExtensions(extensions),
  }
}

type ExtensionFields = Pick<
  Certificate,
  | 'isCa'
  | 'basicConstraintsPresent'
  | 'pathLength'
  | 'keyUsage'
  | 'extendedKeyUsage'
  | 'subjectKeyId'
  | 'authorityKeyId'
  | 'subjectAltNames'
  | 'uris'
  | 'dnsNames'
  | 'nameConstraints'
  | 'unknownCritical'
>

function readExtensions(wrapper: DerElement | undefined): ExtensionFields {
  const unknownCritical: string[] = []
  const fields = {
    isCa: false,
    basicConstraintsPresent: false,
    pathLength: undefined as number | undefined,
    keyUsage: undefined as number | undefined,
    extendedKeyUsage: undefined as readonly string[] | undefined,
    subjectKeyId: undefined as Uint8Array | undefined,
    authorityKeyId: undefined as Uint8Array | undefined,
    subjectAltNames: [] as readonly GeneralName[],
    uris: [] as readonly string[],
    dnsNames: [] as readonly string[],
    nameConstraints: undefined as NameConstraints | undefined,
    unknownCritical,
  }
  if (!wrapper) return fields
  const list = new DerReader(single(wrapper, TAG.sequence).contents)
  const seen = new Set<string>()
  while (!list.done) {
    const extension = list.enter(TAG.sequence)
    const name = readOid(extension.expect(TAG.oid))
    const criticalElement = extension.optional(TAG.boolean)
    const critical = criticalElement !== undefined && readBoolean(criticalElement)
    const value = extension.expect(TAG.octetString).contents
    extension.end()
    if (seen.has(name) || seen.size >= MAX_EXTENSIONS)
      throw new DerError('certificate repeats an extension or has too many')
    seen.add(name)
    switch (name) {
      case '2.5.29.19': {
        const constraints = sole(value).into(TAG.sequence)
        fields.basicConstraintsPresent = true
        const ca = constraints.optional(TAG.boolean)
        fields.isCa = ca !== undefined && readBoolean(ca)
        const pathLength = constraints.optional(TAG.integer)
        if (pathLength) fields.pathLength = readSmallInteger(pathLength)
        constraints.end()
        break
      }
      case '2.5.29.15':
        fields.keyUsage = readKeyUsage(sole(value).element(TAG.bitString))
        break
      case '2.5.29.37': {
        const purposes: string[] = []
        const reader = sole(value).into(TAG.sequence)
        while (!reader.done) purposes.push(readOid(reader.expect(TAG.oid)))
        fields.extendedKeyUsage = purposes
        break
      }
      case '2.5.29.14':
        fields.subjectKeyId = sole(value).element(TAG.octetString).contents
        break
      case '2.5.29.35':
        fields.authorityKeyId = sole(value).into(TAG.sequence).optional(0x80)?.contents
        break
      case '2.5.29.17': {
        fields.subjectAltNames = readGeneralNames(sole(value).into(TAG.sequence))
        fields.uris = namesOf(fields.subjectAltNames, 6)
        fields.dnsNames = namesOf(fields.subjectAltNames, 2)
        break
      }
      case '2.5.29.30':
        fields.nameConstraints = readNameConstraints(sole(value).into(TAG.sequence))
        break
      default:
        if (critical) unknownCritical.push(name)
    }
  }
  return fields
}

/** The only element inside a wrapper such as [0] EXPLICIT. */
function single(wrapper: DerElement, tag?: number): DerElement {
  const reader = new DerReader(wrapper.contents)
  const found = tag === undefined ? reader.next() : reader.expect(tag)
  reader.end()
  return found
}

function sole(value: Uint8Array) {
  const reader = new DerReader(value)
  return {
    element(tag: number): DerElement {
      const found = reader.expect(tag)
      reader.end()
      return found
    },
    into(tag: number): DerReader {
      const found = reader.expect(tag)
      reader.end()
      return reader.into(found)
    },
  }
}

function readKeyUsage(found: DerElement): number {
  const { bytes } = readBits(found)
  let usage = 0
  for (let bit = 0; bit < Math.min(bytes.length * 8, 9); bit += 1) {
    if (bytes[bit >> 3]! & (0x80 >> (bit & 7))) usage |= 1 << bit
  }
  return usage
}

const MAX_NAMES = 1024

export function readGeneralNames(reader: DerReader): GeneralName[] {
  const names: GeneralName[] = []
  while (!reader.done) {
    const found = reader.next()
    names.push(generalName(found, names.length))
  }
  return names
}

/** otherName, x400Address, directoryName and ediPartyName hold other elements; the rest are plain bytes. */
const CONSTRUCTED_NAMES = new Set([0, 3, 4, 5])

function generalName(found: DerElement, index: number): GeneralName {
  const type = found.tag & 0x1f
  const constructed = CONSTRUCTED_NAMES.has(type) ? 0x20 : 0
  if ((found.tag & 0xe0) !== (0x80 | constructed) || type > 8 || index >= MAX_NAMES) {
    throw new DerError('general name is malformed')
  }
  return { type, value: found.contents }
}

/** Names of one text type (URI 6, DNS 2, email 1), which are ASCII. */
export function namesOf(names: readonly GeneralName[], type: number): string[] {
  return names
    .filter((name) => name.type === type)
    .map((name) => readText({ tag: TAG.ia5String, raw: name.value, contents: name.value }))
}

function readNameConstraints(reader: DerReader): NameConstraints {
  const permitted = reader.optional(0xa0)
  const excluded = reader.optional(0xa1)
  reader.end()
  const constraints = { permitted: readSubtrees(permitted), excluded: readSubtrees(excluded) }
  if (constraints.permitted.length + constraints.excluded.length === 0) throw new DerError('name constraints are empty')
  return constraints
}

function readSubtrees(wrapper: DerElement | undefined): GeneralName[] {
  if (!wrapper) return []
  const list = new DerReader(wrapper.contents)
  const names: GeneralName[] = []
  while (!list.done) {
    const subtree = list.enter(TAG.sequence)
    const base = subtree.next()
    // minimum and maximum have no meaning in PKIX and must be absent (RFC 5280 4.2.1.10).
    subtree.end()
    names.push(generalName(base, names.length))
  }
  return names
}

/** The attributes of a Name (DER), in the order of the encoding. */
export function parseName(name: Uint8Array): NameAttribute[] {
  const outer = new DerReader(name)
  const sets = outer.enter(TAG.sequence)
  outer.end()
  const attributes: NameAttribute[] = []
  while (!sets.done) {
    const set = sets.enter(TAG.set)
    while (!set.done) {
      const attribute = set.enter(TAG.sequence)
      const type = readOid(attribute.expect(TAG.oid))
      const value = attribute.next()
      attribute.end()
      attributes.push({ oid: type, value: readAttributeText(value), encoded: value.raw })
    }
  }
  return attributes
}

/** Names of old authorities use string types that appear nowhere else: NumericString, TeletexString, BMPString. */
function readAttributeText(found: DerElement): string {
  if (found.tag === 0x12 || found.tag === 0x14) return new TextDecoder('latin1').decode(found.contents)
  if (found.tag !== 0x1e) return readText(found)
  if (found.contents.length % 2 !== 0) throw new DerError('DER BMP string is malformed')
  let text = ''
  for (let index = 0; index < found.contents.length; index += 2) {
    text += String.fromCharCode(found.contents[index]! * 256 + found.contents[index + 1]!)
  }
  return text
}

/** In the order in which they are written, first to last. */
const SHORT_NAMES: Readonly<Record<string, string>> = {
  '2.5.4.6': 'C',
  '2.5.4.10': 'O',
  '2.5.4.11': 'OU',
  '2.5.4.7': 'L',
  '2.5.4.8': 'ST',
  '2.5.4.9': 'STREET',
  '2.5.4.17': 'POSTALCODE',
  '2.5.4.3': 'CN',
  '2.5.4.5': 'SERIALNUMBER',
}

/**
 * A Name as Go prints it: `CN=web,O=SPIRE,C=US`. The usual attributes come in a fixed order, last first, whatever the order of
 * the encoding; those of one kind are joined by `+`; unusual ones follow as hex. RFC 2253.
 */
export function nameText(name: Uint8Array): string {
  const attributes = parseName(name)
  const parts: string[] = []
  for (const { oid, encoded } of attributes) if (!SHORT_NAMES[oid]) parts.push(`${oid}=#${hex(encoded)}`)
  for (const [type, label] of Object.entries(SHORT_NAMES)) {
    const values = attributes.filter(({ oid }) => oid === type).map(({ value }) => `${label}=${escapeValue(value)}`)
    if (label === 'CN' || label === 'SERIALNUMBER') values.splice(0, values.length - 1)
    if (values.length > 0) parts.push(values.join('+'))
  }
  return parts.reverse().join(',')
}

function escapeValue(value: string): string {
  return value.replace(/[,+"\\<>;]|^[ #]| $/g, '\\$&')
}

/** The serial number in decimal, as SPIRE shows and stores it. */
export function serialText(certificate: Certificate): string {
  return BigInt(`0x${hex(certificate.serial)}`).toString()
}
