import type { X509SVIDResponse } from '../../../proto/spiffe/workload.ts'
import { type Certificate, parseCertificates } from '../../core/certificate.ts'
import { type VerifiedX509Svid, verifyX509Svid } from '../../core/path-validation.ts'
import { parseSpiffeId, trustDomainOf } from '../../core/spiffe-id.ts'
import { importSigner, nodeVerifier } from '../../plugins/signer.ts'
import { complaining } from '../arguments.ts'
import { CommandError } from '../failure.ts'
import { elapsedText, utcTimeText } from '../time.ts'

/** One SVID of a response, parsed. */
export interface X509Entry {
  readonly spiffeId: string
  readonly hint: string
  readonly chain: readonly Certificate[]
  /** PKCS#8 DER. */
  readonly privateKey: Uint8Array
  readonly roots: readonly Certificate[]
}

export interface X509Content {
  readonly svids: readonly X509Entry[]
  /** Sorted by the ID of the trust domain. */
  readonly federated: readonly (readonly [string, readonly Certificate[]])[]
}

/**
 * Parses a response and verifies each SVID against its bundle.
 * @param at milliseconds
 * @throws CommandError with SPIRE's texts
 */
export async function readX509Response(response: X509SVIDResponse, at: number): Promise<X509Content> {
  if (response.svids.length === 0) throw new CommandError('workload response contains no svids')
  const federated = Object.entries(response.federatedBundles)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([id, der]) => {
      const what = `for federated domain ${JSON.stringify(id)}`
      const roots = complaining(`failed to parse bundle ${what}`, () => parseCertificates(der))
      if (roots.length === 0) throw new CommandError(`no certificates in bundle ${what}`)
      return [id, roots] as const
    })
  const svids = response.svids.map((svid, i) =>
    complaining(`failed to parse svid entry ${i} for spiffe id ${JSON.stringify(svid.spiffeId)}`, () => {
      const chain = parseCertificates(svid.x509Svid)
      if (chain.length === 0) throw new CommandError('no certificates found')
      complaining('failed to parse private key', () => importSigner(svid.x509SvidKey))
      const roots = complaining('failed to parse trust bundle', () => parseCertificates(svid.bundle))
      if (roots.length === 0) throw new CommandError('no certificates in trust bundle')
      return { spiffeId: svid.spiffeId, hint: svid.hint, chain, privateKey: svid.x509SvidKey, roots }
    }),
  )
  for (const svid of svids) await verifyEntry(svid, at)
  return { svids, federated }
}

async function verifyEntry({ spiffeId, chain, roots }: X509Entry, at: number): Promise<VerifiedX509Svid> {
  const trustDomain = trustDomainOf(parseSpiffeId(spiffeId))
  try {
    return await verifyX509Svid({
      chain: chain.map((certificate) => certificate.der),
      rootsOf: (wanted) => (wanted === trustDomain ? roots : undefined),
      at: Math.floor(at / 1000),
      verify: nodeVerifier(),
    })
  } catch (error) {
    const reason = (error as Error).message
    throw new CommandError(
      `${JSON.stringify(spiffeId)} SVID failed verification against bundle: x509svid: could not verify leaf certificate: ${reason}`,
      { cause: error },
    )
  }
}

/**
 * A response for reading, with the time it took.
 * @param federatedLabel how a trust domain's ID is shown
 */
export function x509Text(
  content: X509Content,
  tookMs: number,
  options: { readonly hints: boolean; readonly federatedLabel: (id: string) => string },
): string {
  const { length } = content.svids
  let out = `Received ${length} svid${length === 1 ? '' : 's'} after ${elapsedText(tookMs)}\n`
  for (const { spiffeId, hint, chain, roots } of content.svids) {
    out += `\nSPIFFE ID:\t\t${spiffeId}\n`
    if (options.hints && hint !== '') out += `Hint:\t\t\t${hint}\n`
    out += validity('SVID', chain[0]!)
    for (const [i, certificate] of chain.slice(1).entries()) out += validity(`Intermediate #${i + 1}`, certificate)
    for (const [i, root] of roots.entries()) out += validity(`CA #${i + 1}`, root)
    for (const [id, federated] of content.federated) {
      for (const [i, root] of federated.entries()) {
        out += validity(`[${options.federatedLabel(id)}] CA #${i + 1}`, root)
      }
    }
  }
  return `${out}\n`
}

function validity(label: string, { notBefore, notAfter }: Certificate): string {
  return `${label} Valid After:\t${utcTimeText(notBefore)}\n${label} Valid Until:\t${utcTimeText(notAfter)}\n`
}
