import { parseCertificates } from '../../core/certificate.ts'
import { errorMessage } from '../../core/error.ts'
import type { Log } from '../../core/log.ts'
import { connect } from '../../transport/grpc-client.ts'
import { pause } from '../periodic.ts'
import { WORKLOAD_HEADER, workload } from '../workload-methods.ts'
import type { TakeIdentity } from './upstream-identity.ts'

const RETRY_MS = 1_000

/**
 * Follows this server's own SVID on the Workload API of an agent beside it, until the signal aborts.
 * @param socket absolute path
 */
export async function followWorkloadApi(
  socket: string,
  take: TakeIdentity,
  log: Log,
  signal: AbortSignal,
): Promise<void> {
  const channel = await connect({ target: `unix://${socket}` })
  let complaint: string | undefined
  log.debug('Watching X.509 contexts')
  while (!signal.aborted) {
    try {
      const call = { metadata: WORKLOAD_HEADER, signal }
      for await (const { svids } of channel.serverStream(workload.fetchX509Svid, {}, call)) {
        const svid = svids[0]
        if (!svid) continue
        const roots = parseCertificates(svid.bundle).map(({ der }) => der)
        const chain = parseCertificates(svid.x509Svid).map(({ der }) => der)
        take.identity({ chain, privateKey: svid.x509SvidKey, roots })
        complaint = undefined
      }
    } catch (error) {
      const reason = errorMessage(error)
      take.failure(`unable to get an X509-SVID from the Workload API at ${socket}: ${reason}`)
      // Said again when the reason is another one.
      if (!signal.aborted && complaint !== reason) {
        log.warn('Waiting for an X509-SVID from the Workload API', { path: socket, error: reason })
        complaint = reason
      }
    }
    await pause(RETRY_MS, signal)
  }
  channel.close()
}
