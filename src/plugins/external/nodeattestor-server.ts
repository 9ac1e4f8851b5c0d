import { AttestRequest, AttestResponse } from '../../../proto/spire/plugin/server/nodeattestor/v1.ts'
import { errorMessage, StatusError } from '../../core/error.ts'
import type { NodeAttestationStep, NodeAttestor } from '../../core/plugin.ts'
import { parseSpiffeId, type SpiffeId } from '../../core/spiffe-id.ts'
import type { BidiCall } from '../../transport/grpc-client.ts'
import type { PluginCalls } from './calls.ts'
import { checkedSelectorValues } from './selectors.ts'

const ATTEST = {
  path: '/spire.plugin.server.nodeattestor.v1.NodeAttestor/Attest',
  request: AttestRequest,
  response: AttestResponse,
}

/** Of strangers: whoever comes when so many wait for their agents takes the place of the one that waits longest. */
const MAX_WAITING = 1024
const HANDLE_BYTES = 16

interface Conversation {
  readonly call: BidiCall<AttestRequest, AttestResponse>
  readonly messages: AsyncIterator<AttestResponse>
  readonly late: NodeJS.Timeout
}

export interface ExternalNodeAttestorOptions {
  readonly name: string
  /** Whoever asks puts the prefix before errors. */
  readonly calls: PluginCalls
  readonly random: (bytes: Uint8Array) => Uint8Array
  /** How long an agent may think about a challenge; default 60 s, as over HTTP. */
  readonly patienceMs?: number
}

/**
 * A plugin that decides what node an agent is on. A conversation is one stream to the plugin, which stays here while the agent thinks: the state
 * of a step is only a handle of it, good once and for this process.
 */
export function externalNodeAttestor(options: ExternalNodeAttestorOptions): NodeAttestor {
  const { name, calls, random } = options
  const waiting = new Map<string, Conversation>()

  const drop = (handle: string): void => {
    const conversation = waiting.get(handle)
    if (!conversation) return
    waiting.delete(handle)
    clearTimeout(conversation.late)
    conversation.call.cancel()
  }

  /** Receives one message: the end, or a challenge. */
  async function next(call: Conversation['call'], messages: Conversation['messages']): Promise<NodeAttestationStep> {
    const { done, value } = await messages.next()
    if (done) throw calls.error('INTERNAL', 'plugin closed stream unexpectedly')
    const { agentAttributes, challenge } = value
    if (agentAttributes) {
      call.cancel()
      return {
        attributes: {
          spiffeId: agentId(agentAttributes.spiffeId, calls),
          selectorValues: checkedSelectorValues(agentAttributes.selectorValues, calls),
          canReattest: agentAttributes.canReattest,
        },
      }
    }
    if (!challenge) throw calls.error('INTERNAL', 'plugin response missing challenge or agent attributes')
    const state = random(new Uint8Array(HANDLE_BYTES))
    const handle = Buffer.from(state).toString('hex')
    if (waiting.size >= MAX_WAITING) drop(waiting.keys().next().value!)
    const late = setTimeout(() => drop(handle), options.patienceMs ?? 60_000).unref()
    waiting.set(handle, { call, messages, late })
    return { challenge, state }
  }

  return {
    name,
    async start(payload, { peerAddress }) {
      // No host is told: it would be what the agent wrote, and nobody may rely on that.
      const metadata = { 'x-forwarded-client-ip': peerAddress, 'x-untrusted-forwarded-host': '' }
      const call = calls.bidi(ATTEST, { metadata })
      try {
        await call.send({ payload, challengeResponse: undefined })
        return await next(call, call.messages[Symbol.asyncIterator]())
      } catch (error) {
        call.cancel()
        throw error
      }
    },
    async resume(state, response) {
      const handle = Buffer.from(state).toString('hex')
      const conversation = waiting.get(handle)
      if (!conversation) throw new StatusError('FAILED_PRECONDITION', 'the attestation is over: begin again')
      waiting.delete(handle)
      clearTimeout(conversation.late)
      const { call, messages } = conversation
      try {
        await call.send({ payload: undefined, challengeResponse: response })
        return await next(call, messages)
      } catch (error) {
        call.cancel()
        throw error
      }
    },
  }
}

function agentId(text: string, calls: PluginCalls): SpiffeId {
  if (text === '') throw calls.error('INTERNAL', 'plugin response missing agent ID')
  try {
    return parseSpiffeId(text)
  } catch (error) {
    throw calls.error('INTERNAL', `invalid agent ID: ${errorMessage(error)}`)
  }
}
