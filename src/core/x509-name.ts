import { parseName } from './certificate.ts'
import { element, oid, sequence, TAG, utf8 } from './der.ts'

/** Attributes of a distinguished name as SPIRE configures and composes them. */
export interface DistinguishedName {
  readonly country?: readonly string[]
  readonly organization?: readonly string[]
  readonly organizationalUnit?: readonly string[]
  readonly locality?: readonly string[]
  readonly province?: readonly string[]
  readonly streetAddress?: readonly string[]
  readonly postalCode?: readonly string[]
  readonly commonName?: string
  readonly serialNumber?: string
  /** Attributes of any type; they come last. */
  readonly extraNames?: readonly { readonly oid: string; readonly value: string }[]
}

type Known = Exclude<keyof DistinguishedName, 'extraNames'>

/** OIDs in the order in which Go encodes a name (1.26, which SPIRE 1.15 is built with; before it the organization came second). */
const ORDER = {
  country: '2.5.4.6',
  province: '2.5.4.8',
  locality: '2.5.4.7',
  streetAddress: '2.5.4.9',
  postalCode: '2.5.4.17',
  organization: '2.5.4.10',
  organizationalUnit: '2.5.4.11',
  commonName: '2.5.4.3',
  serialNumber: '2.5.4.5',
} as const satisfies Record<Known, string>

const KNOWN = new Map(Object.entries(ORDER).map(([key, value]) => [value as string, key as Known]))
const PRINTABLE = /^[A-Za-z0-9 '()+,\-./:=?]*$/

/**
 * DER of a Name: one RDN per kind of attribute, which holds all its values, PrintableString where the text allows it.
 * @see RFC 5280 4.1.2.4, X.690 11.6 for the order inside a set
 */
export function encodeName(name: DistinguishedName): Uint8Array {
  const sets: Uint8Array[] = []
  for (const [key, type] of Object.entries(ORDER)) {
    const value = name[key as Known]
    const attributes = (typeof value === 'string' ? [value] : (value ?? []))
      .filter((text) => text !== '')
      .map((text) => attribute(type, text))
    if (attributes.length > 0) sets.push(element(TAG.set, ...attributes.sort(compareBytes)))
  }
  for (const { oid: type, value } of name.extraNames ?? []) sets.push(element(TAG.set, attribute(type, value)))
  return sequence(...sets)
}

function attribute(type: string, text: string): Uint8Array {
  return sequence(oid(type), element(PRINTABLE.test(text) ? TAG.printableString : TAG.utf8String, utf8(text)))
}

function compareBytes(a: Uint8Array, b: Uint8Array): number {
  const length = Math.min(a.length, b.length)
  for (let index = 0; index < length; index += 1) if (a[index] !== b[index]) return a[index]! - b[index]!
  return a.length - b.length
}

/** The attributes of an encoded Name that SPIRE knows; of single-valued ones the last counts. Others are left out. */
export function decodeName(der: Uint8Array): DistinguishedName {
  const lists: Partial<Record<Known, string[]>> = {}
  for (const { oid: type, value } of parseName(der)) {
    const key = KNOWN.get(type)
    if (!key) continue
    const list = lists[key]
    if (list) list.push(value)
    else lists[key] = [value]
  }
  const { commonName, serialNumber, ...rest } = lists
  return {
    ...rest,
    ...(commonName ? { commonName: commonName.at(-1)! } : {}),
    ...(serialNumber ? { serialNumber: serialNumber.at(-1)! } : {}),
  }
}

/** True for the empty Name, which a CSR may carry. */
export function isEmptyName(der: Uint8Array): boolean {
  return der.length === 2
}
