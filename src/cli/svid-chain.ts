import { rfc3339 } from '../core/rfc3339.ts'
import { idText } from './output.ts'

interface ChainCertificate {
  readonly id: { readonly trustDomain: string; readonly path: string } | undefined
  readonly subject: string
  readonly expiresAt: number
}

/** The chain in the debug information of server and agent; empty for none. */
export function chainText(chain: readonly ChainCertificate[]): string {
  if (chain.length === 0) return ''
  const lines = chain.map(
    ({ id, subject, expiresAt }, i) =>
      `    [${i}] SPIFFE ID:  ${id === undefined ? '(none)' : idText(id)}\n` +
      `        Subject:    ${subject}\n        Expires At: ${rfc3339(expiresAt)}\n`,
  )
  return `  SVID Chain:\n${lines.join('')}`
}
