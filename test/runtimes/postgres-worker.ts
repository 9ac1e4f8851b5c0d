import { silentLog } from '../../src/core/log.ts'
import { parseSpiffeId } from '../../src/core/spiffe-id.ts'
import type { Store } from '../../src/core/store.ts'
import { parseTrustDomainName } from '../../src/core/trust-domain.ts'
import { openPostgresStore } from '../../src/store/postgres.ts'

/** A store on PostgreSQL that outlives requests, as a server in a Worker has it. */
const TRUST_DOMAIN = parseTrustDomainName('example.org')
let store: Promise<Store> | undefined

export default {
  async fetch(request: Request, env: { readonly CONNECTION: string }): Promise<Response> {
    store ??= openPostgresStore({ connection: env.CONNECTION, perCall: true, log: silentLog })
    const keyId = new URL(request.url).pathname.slice(1)
    const key = { keyId, publicKey: Uint8Array.of(1, 2, 255), expiresAt: 1_900_000_000, tainted: false }
    const opened = await store
    const { jwtAuthorities, sequenceNumber } = await opened.bundles.append({
      trustDomain: TRUST_DOMAIN,
      jwtAuthorities: [key],
    })
    const agentId = parseSpiffeId('spiffe://example.org/spire/agent/a')
    const entries = await opened.entries.authorized(agentId, [])
    const lease = await opened.leases.take('l', keyId, 0, 10)
    const keys = jwtAuthorities.map(({ keyId, publicKey }) => [keyId, [...publicKey]])
    return Response.json({ keys, sequenceNumber, entries: entries.length, fence: lease?.fence })
  },
}
