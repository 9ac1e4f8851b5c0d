import { StatusError } from '../../../core/error.ts'
import type { AgentNodeAttestor } from '../../../core/plugin.ts'
import { half, type PluginDeclaration } from '../../plugin.ts'

/** The server's half is part of the server (`src/server/attest-agent.ts`): a token is used up in the store. */
const declaration: PluginDeclaration<'NodeAttestor'> = {
  server: half({
    keys: [],
    read: () => undefined,
    make: () => undefined,
    odd: (data) => Object.keys(data).map((key) => `unknown setting ${JSON.stringify(key)} encountered`),
  }),
  agent: half({
    keys: [],
    read: () => undefined,
    // The token comes from elsewhere in the configuration, and has an attestor of its own then.
    make: () => missingToken,
  }),
}
export default declaration

const missingToken: AgentNodeAttestor = {
  name: 'join_token',
  async begin() {
    throw new StatusError('INVALID_ARGUMENT', 'nodeattestor(join_token): join token was not provided')
  },
}
