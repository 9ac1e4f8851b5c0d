import { StatusError } from '../../../core/error.ts'
import { proveJoinToken } from '../../../core/join-token-proof.ts'
import type { AgentNodeAttestor } from '../../../core/plugin.ts'

/** Attests an agent by a token that was handed to it, or by proof of it; the server's half is in its core. */
export function joinTokenAttestor(token: string): AgentNodeAttestor {
  if (token === '') throw new StatusError('INVALID_ARGUMENT', 'join token is empty')
  return {
    name: 'join_token',
    async begin(carried) {
      return {
        payload: carried ? await proveJoinToken(token, carried, carried.now) : new TextEncoder().encode(token),
        async respond() {
          throw new StatusError('INTERNAL', 'join token attestation has no challenge')
        },
      }
    },
  }
}
