import {
  DeleteX509SVIDRequest,
  DeleteX509SVIDResponse,
  PutX509SVIDRequest,
  PutX509SVIDResponse,
} from '../../../proto/spire/plugin/agent/svidstore/v1.ts'
import type { SvidStore } from '../../core/plugin.ts'
import type { PluginCalls } from './calls.ts'

const SERVICE = '/spire.plugin.agent.svidstore.v1.SVIDStore'
const PUT = { path: `${SERVICE}/PutX509SVID`, request: PutX509SVIDRequest, response: PutX509SVIDResponse }
const DELETE = { path: `${SERVICE}/DeleteX509SVID`, request: DeleteX509SVIDRequest, response: DeleteX509SVIDResponse }
/** One store after the other is given what is due: none holds up the others for longer. */
const TIMEOUT = { timeoutMs: 30_000 }

/** A plugin that keeps SVIDs somewhere else. */
export function externalSvidStore(name: string, calls: PluginCalls): SvidStore {
  return {
    name,
    async put({ spiffeId, chain, privateKey, expiresAt, bundle, metadata, federatedBundles }) {
      const request = {
        svid: { spiffeID: spiffeId, certChain: [...chain], privateKey, bundle: [...bundle], expiresAt },
        metadata: [...metadata],
        federatedBundles: Object.fromEntries(federatedBundles),
      }
      await calls.unary(PUT, request, TIMEOUT)
    },
    async delete(metadata) {
      await calls.unary(DELETE, { metadata: [...metadata] }, TIMEOUT)
    },
  }
}
