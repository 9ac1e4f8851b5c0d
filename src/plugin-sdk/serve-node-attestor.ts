import { StatusError } from '../core/error.ts'
import type { AgentNodeAttestor, NodeAttestor } from '../core/plugin.ts'
import type { Implementation } from './kinds.ts'

/** The server's half of a node attestor as a plugin. The address of the agent is not known to one. */
export function servedNodeAttestor(attestor: NodeAttestor): Implementation<'server/NodeAttestor'> {
  const context = { peerAddress: '' }
  return {
    async *attest(requests) {
      const heard = requests[Symbol.asyncIterator]()
      const next = async (part: 'payload' | 'challengeResponse', name: string): Promise<Uint8Array> => {
        const { value } = await heard.next()
        if (value?.[part] === undefined) throw new StatusError('INVALID_ARGUMENT', `missing ${name}`)
        return value[part]
      }
      let step = await attestor.start(await next('payload', 'attestation payload'), context)
      while ('challenge' in step) {
        yield { challenge: step.challenge }
        step = await attestor.resume(step.state, await next('challengeResponse', 'challenge response'), context)
      }
      const { spiffeId, selectorValues, canReattest } = step.attributes
      yield { agentAttributes: { spiffeId, selectorValues: [...selectorValues], canReattest } }
    },
  }
}

/** The agent's half. */
export function servedAgentNodeAttestor(attestor: AgentNodeAttestor): Implementation<'agent/NodeAttestor'> {
  return {
    async *aidAttestation(challenges) {
      const attestation = await attestor.begin()
      try {
        yield { payload: attestation.payload }
        for await (const { challenge } of challenges) yield { challengeResponse: await attestation.respond(challenge) }
      } finally {
        await attestation.end?.()
      }
    },
  }
}
