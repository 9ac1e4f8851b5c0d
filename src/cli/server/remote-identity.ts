import { resolve } from 'node:path'
import { parseCertificates } from '../../core/certificate.ts'
import { errorMessage } from '../../core/error.ts'
import { importSigner } from '../../plugins/signer.ts'
import { connect } from '../../transport/grpc-client.ts'
import type { HttpIdentity } from '../../transport/http-signature.ts'
import { CommandError } from '../failure.ts'
import { WORKLOAD_HEADER, workload } from '../workload-methods.ts'

const TIMEOUT_MS = 10_000

/** This process's own SVID, from the Workload API of an agent on this machine. @throws CommandError */
export async function fetchIdentity(socket: string): Promise<HttpIdentity> {
  const channel = await connect({ target: `unix://${resolve(socket)}` })
  try {
    const options = { metadata: WORKLOAD_HEADER, signal: AbortSignal.timeout(TIMEOUT_MS) }
    for await (const { svids } of channel.serverStream(workload.fetchX509Svid, {}, options)) {
      const svid = svids[0]
      if (!svid) continue
      const chain = parseCertificates(svid.x509Svid).map(({ der }) => der)
      return { chain, signer: importSigner(svid.x509SvidKey) }
    }
    throw new Error('the stream ended')
  } catch (error) {
    throw new CommandError(`unable to get an X509-SVID from the Workload API at ${socket}: ${errorMessage(error)}`)
  } finally {
    channel.close()
  }
}
