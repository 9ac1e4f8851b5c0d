import type { EpochSeconds } from '../../src/core/clock.ts'
import { bitString, element, octetString, oid, sequence, TAG, time, unsignedInteger, utf8 } from '../../src/core/der.ts'
import { ecdsaRawToDer } from '../../src/core/ecdsa.ts'
import { isEcdsa, signatureAlgorithmIdentifier, subjectKeyId } from '../../src/core/public-key.ts'
import { type DistinguishedName, encodeName } from '../../src/core/x509-name.ts'
import { generateSigner, type MemorySigner } from '../../src/plugins/signer.ts'

/** 2027-01-15T08:00:00Z: the moment at which tests verify. */
export const AT: EpochSeconds = 1_800_000_000

/** What a certificate for tests says; nothing is checked, so that it may be wrong in any way. */
export interface OddCertificate {
  readonly name: string
  /** More of the subject than its name. */
  readonly subject?: DistinguishedName
  readonly ca?: boolean
  readonly pathLength?: number
  /** Contents of the key usage bits; default fits `ca`. */
  readonly keyUsage?: Uint8Array | undefined
  readonly uris?: readonly string[]
  readonly dnsNames?: readonly string[]
  readonly ips?: readonly (readonly number[])[]
  readonly constraints?: Constraints
  /** Whole extensions, appended. */
  readonly extra?: readonly Uint8Array[]
  readonly notBefore?: EpochSeconds
  readonly notAfter?: EpochSeconds
  readonly serial?: Uint8Array
  /** Replaces the issuer's identifier. */
  readonly authorityKeyId?: Uint8Array
  readonly key?: MemorySigner
}

export interface Constraints {
  readonly permitted?: readonly (readonly [type: number, value: string | readonly number[]])[]
  readonly excluded?: readonly (readonly [type: number, value: string | readonly number[]])[]
}

export interface Made {
  readonly der: Uint8Array
  readonly name: Uint8Array
  readonly key: MemorySigner
}

let serials = 0

/** Makes a certificate. @param issuer signs; absent: the certificate signs itself */
export async function makeCertificate(says: OddCertificate, issuer?: Made): Promise<Made> {
  const key = says.key ?? (await generateSigner('ec-p256'))
  const name = encodeName({ commonName: says.name, ...says.subject })
  const signer = issuer?.key ?? key
  const sans = [
    ...(says.dnsNames ?? []).map((text) => element(0x82, utf8(text))),
    ...(says.uris ?? []).map((text) => element(0x86, utf8(text))),
    ...(says.ips ?? []).map((address) => element(0x87, Uint8Array.from(address))),
  ]
  const usage = 'keyUsage' in says ? says.keyUsage : says.ca ? Uint8Array.of(1, 0b110) : Uint8Array.of(7, 0b1000_0000)
  const basic = says.ca
    ? sequence(
        Uint8Array.of(TAG.boolean, 1, 0xff),
        ...(says.pathLength === undefined ? [] : [unsignedInteger(Uint8Array.of(says.pathLength))]),
      )
    : sequence()
  const authority = says.authorityKeyId ?? (issuer && subjectKeyId(issuer.key.publicKey))
  const extensions = [
    ...(usage ? [makeExtension('2.5.29.15', true, element(TAG.bitString, usage))] : []),
    makeExtension('2.5.29.19', true, basic),
    makeExtension('2.5.29.14', false, octetString(subjectKeyId(key.publicKey))),
    ...(authority ? [makeExtension('2.5.29.35', false, sequence(element(0x80, authority)))] : []),
    ...(sans.length > 0 ? [makeExtension('2.5.29.17', false, sequence(...sans))] : []),
    ...(says.constraints ? [makeExtension('2.5.29.30', true, constraintsValue(says.constraints))] : []),
    ...(says.extra ?? []),
  ]
  serials += 1
  const tbs = sequence(
    Uint8Array.of(0xa0, 3, TAG.integer, 1, 2),
    says.serial ? element(TAG.integer, says.serial) : unsignedInteger(Uint8Array.of(serials >> 8, serials & 0xff)),
    signatureAlgorithmIdentifier(signer.keyType),
    issuer?.name ?? name,
    sequence(time(says.notBefore ?? AT - 3600), time(says.notAfter ?? AT + 3600)),
    name,
    key.publicKey,
    element(0xa3, sequence(...extensions)),
  )
  const raw = await signer.sign(tbs)
  const signature = isEcdsa(signer.keyType) ? ecdsaRawToDer(raw) : raw
  return { der: sequence(tbs, signatureAlgorithmIdentifier(signer.keyType), bitString(signature)), name, key }
}

/** One extension, whatever its value is. */
export function makeExtension(name: string, critical: boolean, value: Uint8Array): Uint8Array {
  const flag = critical ? [Uint8Array.of(TAG.boolean, 1, 0xff)] : []
  return sequence(oid(name), ...flag, octetString(value))
}

function constraintsValue({ permitted = [], excluded = [] }: Constraints): Uint8Array {
  const side = (tag: number, bases: NonNullable<Constraints['permitted']>) =>
    bases.length === 0
      ? []
      : [
          element(
            tag,
            ...bases.map(([type, value]) =>
              sequence(element(0x80 | type, typeof value === 'string' ? utf8(value) : Uint8Array.from(value))),
            ),
          ),
        ]
  return sequence(...side(0xa0, permitted), ...side(0xa1, excluded))
}
