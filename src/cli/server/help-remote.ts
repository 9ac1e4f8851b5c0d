import { defineCommand } from '../command.ts'
import type { Flag } from '../flags.ts'
import { REMOTE_FLAGS } from './remote-flags.ts'

/** `help remote`: the flags that every command has which can reach a server over HTTPS. */
export const command = defineCommand({
  name: 'help remote',
  flags: {},
  async run(_, { stdout }) {
    stdout(`Every command that talks to a server reaches it by its socket, or over HTTPS with these flags:

${flagLines(REMOTE_FLAGS)}
A flag wins over its variable, and -socketPath wins over TURRET_SERVER_URL.

Make a key, let the server know its thumbprint, then use it:

  turret-server operator keygen -out operator.pem
  turret-server entry show -serverURL https://id.example.org -serverTrustBundle bundle.pem -operatorKey operator.pem

The same by the environment:

  export TURRET_SERVER_URL=https://id.example.org
  export TURRET_SERVER_TRUST_BUNDLE=bundle.pem
  export TURRET_OPERATOR_KEY=operator.pem
  turret-server entry show
`)
  },
})

function flagLines(flags: Readonly<Record<string, Flag<string>>>): string {
  return Object.entries(flags)
    .map(([name, { word, help }]) => `  -${name} ${word}\n    \t${help}\n`)
    .join('')
}
