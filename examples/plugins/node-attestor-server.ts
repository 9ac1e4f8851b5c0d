#!/usr/bin/env node
// The server's half of a NodeAttestor: whoever knows the secret of a machine is that machine.

import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { requiredText, StatusError, servePlugin } from 'turret/plugin'

await servePlugin({
  kind: 'server/NodeAttestor',

  // A file of lines "machine secret".
  read: ({ data, trustDomain }) => ({ trustDomain, path: requiredText(data, 'secrets_path') }),

  make: ({ trustDomain, path }) => ({
    async *attest(requests) {
      const from = requests[Symbol.asyncIterator]()
      const machine = new TextDecoder().decode((await from.next()).value?.payload)
      const lines = readFileSync(path, 'utf8').split('\n')
      const secret = lines.find((line) => line.startsWith(`${machine} `))?.slice(machine.length + 1)
      const challenge = randomBytes(32)
      yield { challenge }
      const proof = (await from.next()).value?.challengeResponse ?? new Uint8Array()
      const expected = createHmac('sha256', secret ?? randomBytes(32))
        .update(challenge)
        .digest()
      if (proof.length !== expected.length || !timingSafeEqual(proof, expected))
        throw new StatusError('PERMISSION_DENIED', 'the proof does not fit')
      const spiffeId = `spiffe://${trustDomain}/spire/agent/machine_secret/${machine}`
      yield { agentAttributes: { spiffeId, selectorValues: [`machine:${machine}`], canReattest: true } }
    },
  }),
})
