import { Challenge, PayloadOrChallengeResponse } from '../../../proto/spire/plugin/agent/nodeattestor/v1.ts'
import type { AgentNodeAttestor } from '../../core/plugin.ts'
import type { PluginCalls } from './calls.ts'

const AID_ATTESTATION = {
  path: '/spire.plugin.agent.nodeattestor.v1.NodeAttestor/AidAttestation',
  request: Challenge,
  response: PayloadOrChallengeResponse,
}

/** A plugin that proves what node it is on: it speaks first, then answers challenges. */
export function externalAgentNodeAttestor(name: string, calls: PluginCalls): AgentNodeAttestor {
  return {
    name,
    async begin() {
      const call = calls.bidi(AID_ATTESTATION)
      const messages = call.messages[Symbol.asyncIterator]()
      const receive = async (closed: string): Promise<PayloadOrChallengeResponse> => {
        const { done, value } = await messages.next()
        if (done) throw calls.error('INTERNAL', closed)
        return value
      }
      try {
        const { payload } = await receive('plugin closed stream before returning attestation data')
        if (!payload?.length) throw calls.error('INTERNAL', 'plugin response missing attestation payload')
        return {
          payload,
          async respond(challenge) {
            await call.send({ challenge })
            const { challengeResponse } = await receive('plugin closed stream before handling the challenge')
            if (!challengeResponse?.length) throw calls.error('INTERNAL', 'plugin response missing challenge response')
            return challengeResponse
          },
          end: async () => call.cancel(),
        }
      } catch (error) {
        call.cancel()
        throw error
      }
    },
  }
}
