import { half, type PluginDeclaration } from '../../plugin.ts'
import { readUpstreamSpire } from './config.ts'

const POLL_INTERVAL_MS = 5_000

const declaration: PluginDeclaration<'UpstreamAuthority'> = {
  server: half({
    keys: [
      'server_address',
      'server_port',
      'server_url',
      'server_audience',
      'workload_api_socket',
      'experimental.require_pq_kem',
      'node_attestor.*',
      'trust_bundle_path',
      'trust_bundle_url',
      'trust_bundle_format',
      'insecure_bootstrap',
      'data_dir',
      'spiffe_id',
    ],
    read: readUpstreamSpire,
    async make(config, { connectUpstream, wait, log }) {
      const { spireUpstreamAuthority } = await import('./spire.ts')
      return spireUpstreamAuthority({
        server: await connectUpstream(config),
        wait,
        pollIntervalMs: POLL_INTERVAL_MS,
        log,
      })
    },
  }),
}
export default declaration
