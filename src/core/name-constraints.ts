import { type Certificate, type GeneralName, namesOf } from './certificate.ts'
import { hex } from './der.ts'

const EMAIL = 1
const DNS = 2
const URI = 6
const IP = 7
const UNDERSTOOD: readonly number[] = [EMAIL, DNS, URI, IP]

/** Go's limit: a chain with thousands of names and constraints must not cost seconds. */
const MAX_COMPARISONS = 250_000

/**
 * Checks the names of every certificate of a path against the name constraints of the CAs above it. Kinds of constraint that
 * are not understood refuse the path, since they were put there to forbid something; so do names whose form does not let them
 * be compared.
 *
 * @param path leaf first, root last
 * @returns what is violated, undefined if nothing is
 * @see RFC 5280 4.2.1.10
 */
export function violatedConstraint(path: readonly Certificate[]): string | undefined {
  if (path.every((certificate) => certificate.nameConstraints === undefined)) return undefined
  const names = path.map((certificate) => certificate.subjectAltNames.map(readName))
  let comparisons = 0
  for (let index = 1; index < path.length; index += 1) {
    const constraints = path[index]!.nameConstraints
    if (!constraints) continue
    for (const side of ['excluded', 'permitted'] as const) {
      const bases = constraints[side].map(readName)
      if (bases.some((base) => !UNDERSTOOD.includes(base.type))) return 'x509: unhandled critical extension'
      for (const below of names.slice(0, index)) {
        comparisons += below.length * bases.length
        if (comparisons > MAX_COMPARISONS) return 'x509: too many name constraints comparisons'
        const violation = violationOf(below, bases, side)
        if (violation) return violation
      }
    }
  }
  return undefined
}

type Side = 'permitted' | 'excluded'

/** A name with its text in lower case; hex for addresses. */
interface Name extends GeneralName {
  readonly text: string
}

function readName(name: GeneralName): Name {
  const text =
    name.type === EMAIL || name.type === DNS || name.type === URI ? namesOf([name], name.type)[0]! : hex(name.value)
  return { type: name.type, value: name.value, text: text.toLowerCase() }
}

function violationOf(names: readonly Name[], bases: readonly Name[], side: Side): string | undefined {
  for (const name of names) {
    const relevant = bases.filter((base) => base.type === name.type)
    if (relevant.length === 0) continue
    if (name.type === EMAIL) return 'x509: email names cannot be matched against constraints'
    const subject = name.type === URI ? hostOf(name.text) : name.type === DNS ? dnsOf(name.text) : name.text
    if (subject === undefined) return `x509: a name cannot be matched against ${side} constraints`
    const matches = relevant.map((base) => matchOf(name, subject, base, side))
    if (matches.includes(undefined)) return `x509: a name cannot be matched against ${side} constraints`
    if (side === 'excluded' && matches.includes(true))
      return `x509: a root or intermediate certificate is not authorized to sign for this name: "${name.text}" is excluded by a constraint`
    if (side === 'permitted' && !matches.includes(true))
      return `x509: a root or intermediate certificate is not authorized to sign for this name: "${name.text}" is not permitted by any constraint`
  }
  return undefined
}

/** undefined: cannot be told, so the path is refused. */
function matchOf(name: Name, subject: string, base: Name, side: Side): boolean | undefined {
  if (name.type === IP) return matchIp(name.value, base.value)
  const want = base.text
  if (want === '') return true
  if (name.type === DNS) {
    const bare = want.startsWith('.') ? want.slice(1) : want
    // `.example.org` permits hosts below it alone, as in Go; the stricter reading, which excludes the domain too, counts there.
    if (subject === bare) return side === 'excluded' || bare === want
    if (subject.endsWith(`.${bare}`)) return true
    // A wildcard reaches into what is excluded when one of the names it stands for would (CVE-2025-61727).
    return side === 'excluded' && subject.startsWith('*.') && coversWildcard(subject.slice(1), bare)
  }
  if (want.startsWith('.')) return subject.endsWith(want)
  // A bare host names just that host; Go also takes hosts below it. The stricter reading counts on either side.
  return subject === want || (side === 'excluded' && subject.endsWith(`.${want}`))
}

/** Whether `*<suffix>`, which stands for one label, covers a host. */
function coversWildcard(suffix: string, host: string): boolean {
  return host.endsWith(suffix) && !host.slice(0, -suffix.length).includes('.')
}

/** A DNS name that can be compared; a wildcard only as its first label. */
function dnsOf(name: string): string | undefined {
  return /^(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?$/.test(name) ? name.replace(/\.$/, '') : undefined
}

/** Host of a URI: only names can be matched, not addresses and not the absence of one. */
function hostOf(uri: string): string | undefined {
  const host = /^[a-z][a-z0-9+.-]*:\/\/(?:[^/?#@]*@)?([^/?#:[\]@]+)(?::\d+)?(?:[/?#]|$)/.exec(uri)?.[1]
  return host === undefined || /^\d+(\.\d+){3}$/.test(host) ? undefined : host
}

function matchIp(address: Uint8Array, base: Uint8Array): boolean | undefined {
  if (base.length !== 8 && base.length !== 32) return undefined
  if (address.length !== 4 && address.length !== 16) return undefined
  const size = base.length / 2
  if (address.length !== size) return false
  return address.every((byte, index) => (byte & base[size + index]!) === (base[index]! & base[size + index]!))
}
