import { serverCommand } from '../api-command.ts'
import { idMessage, int32 } from '../arguments.ts'
import { integer, text } from '../flags.ts'
import { agents } from './agent-methods.ts'

/** `token generate`: makes a join token, and with an ID an entry for whoever joins with it. */
export const command = serverCommand({
  name: 'generate',
  flags: {
    ttl: integer('Token TTL in seconds', 600),
    spiffeID: text('Additional SPIFFE ID to assign the token owner (optional)'),
  },
  async run(flags, { api, print, stdout }) {
    const agentId = flags.spiffeID === '' ? undefined : idMessage(flags.spiffeID)
    const ttl = int32(flags.ttl, 'invalid value for TTL')
    print(await api.call(agents.createJoinToken, { agentId, ttl, token: '' }), (token) => {
      stdout(`Token: ${token.value}\n`)
      if (flags.spiffeID === '') stdout('Warning: Missing SPIFFE ID.\n')
    })
  },
})
