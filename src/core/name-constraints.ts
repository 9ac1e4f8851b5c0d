import { type Certificate, type GeneralName, namesOf } from './certificate.ts'
import { hex } from './der.ts'

const EMAIL = 1
const DNS = 2
const URI = 6
const IP = 7

/**
 * Checks the names of every certificate of a path against the name constraints of the CAs above it. Kinds of constraint that
 * are not understood refuse the path, since they were put there to forbid something.
 *
 * @param path leaf first, root last
 * @returns what is violated, undefined if nothing is
 * @see RFC 5280 4.2.1.10
 */
export function violatedConstraint(path: readonly Certificate[]): string | undefined {
  for (let index = 1; index < path.length; index += 1) {
    const constraints = path[index]!.nameConstraints
    if (!constraints) continue
    for (const below of path.slice(0, index)) {
      const violation =
        violationOf(below.subjectAltNames, constraints.excluded, 'excluded') ??
        violationOf(below.subjectAltNames, constraints.permitted, 'permitted')
      if (violation) return violation
    }
  }
  return undefined
}

function violationOf(
  names: readonly GeneralName[],
  constraints: readonly GeneralName[],
  side: 'permitted' | 'excluded',
): string | undefined {
  for (const constraint of constraints) {
    if (![EMAIL, DNS, URI, IP].includes(constraint.type)) return 'x509: unhandled critical extension'
  }
  for (const name of names) {
    const relevant = constraints.filter((constraint) => constraint.type === name.type)
    if (relevant.length === 0) continue
    if (name.type === EMAIL) return 'x509: email names cannot be matched against constraints'
    const matches = relevant.map((constraint) => matchOf(name, constraint, side))
    if (matches.includes(undefined)) return `x509: a name cannot be matched against ${side} constraints`
    if (side === 'excluded' && matches.includes(true))
      return `x509: a root or intermediate certificate is not authorized to sign for this name: "${textOf(name)}" is excluded by a constraint`
    if (side === 'permitted' && !matches.includes(true))
      return `x509: a root or intermediate certificate is not authorized to sign for this name: "${textOf(name)}" is not permitted by any constraint`
  }
  return undefined
}

/** undefined: cannot be told, so the path is refused. */
function matchOf(name: GeneralName, constraint: GeneralName, side: 'permitted' | 'excluded'): boolean | undefined {
  if (name.type === IP) return matchIp(name.value, constraint.value)
  const want = textOf(constraint).toLowerCase()
  if (name.type === DNS) {
    const host = textOf(name).toLowerCase()
    const bare = want.replace(/^\./, '')
    return want === '' || host === bare || host.endsWith(`.${bare}`)
  }
  const host = hostOf(textOf(name))
  if (host === undefined) return undefined
  if (want === '') return true
  if (want.startsWith('.')) return host.endsWith(want)
  // A bare host names just that host; Go also takes hosts below it. The stricter reading counts on either side.
  return host === want || (side === 'excluded' && host.endsWith(`.${want}`))
}

/** Host of a URI: only names can be matched, not addresses and not the absence of one. */
function hostOf(uri: string): string | undefined {
  const match = /^[a-z][a-z0-9+.-]*:\/\/(?:[^/?#@]*@)?([^/?#:[\]]+)(?::\d+)?(?:[/?#]|$)/i.exec(uri)
  const host = match?.[1]?.toLowerCase()
  return host === undefined || /^\d+(\.\d+){3}$/.test(host) ? undefined : host
}

function matchIp(address: Uint8Array, constraint: Uint8Array): boolean | undefined {
  if (constraint.length !== 8 && constraint.length !== 32) return undefined
  const size = constraint.length / 2
  if (address.length !== size) return false
  return address.every(
    (byte, index) => (byte & constraint[size + index]!) === (constraint[index]! & constraint[size + index]!),
  )
}

function textOf(name: GeneralName): string {
  return name.type === IP ? hex(name.value) : (namesOf([name], name.type)[0] ?? '')
}
