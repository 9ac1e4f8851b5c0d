import type { GetInfoRequest, GetInfoResponse } from '../../proto/spire/api/server/debug/v1.ts'
import { nameText, parseCertificate } from '../core/certificate.ts'
import { parseSpiffeId } from '../core/spiffe-id.ts'
import type { Call } from '../rpc/method.ts'
import { idToWire } from './convert.ts'
import type { ServerDeps } from './deps.ts'
import { orInternal } from './outcome.ts'

/** What the server says of itself. Unlike SPIRE's it is not five seconds old: counting is cheap here. */
export async function getInfo(deps: ServerDeps, _: GetInfoRequest, call: Call): Promise<GetInfoResponse> {
  const { store, clock, startedAtMs } = deps
  const [agents, entries, bundles, chain] = await Promise.all([
    orInternal(call, 'failed to count agents', () => store.nodes.count({})),
    orInternal(call, 'failed to count entries', () => store.entries.count({})),
    orInternal(call, 'failed to count bundles', () => store.bundles.count()),
    orInternal(call, 'failed to fetch server SVID', () => deps.serverSvidChain()),
  ])
  call.audit({})
  return {
    svidChain: chain.map((der) => {
      const certificate = parseCertificate(der)
      const uri = certificate.uris[0]
      return {
        id: uri === undefined ? undefined : idToWire(parseSpiffeId(uri)),
        expiresAt: certificate.notAfter,
        subject: nameText(certificate.subject),
      }
    }),
    uptime: Math.floor((clock.nowMs() - startedAtMs) / 1000),
    agentsCount: agents,
    entriesCount: entries,
    federatedBundlesCount: bundles,
  }
}
