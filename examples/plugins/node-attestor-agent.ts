#!/usr/bin/env node
// The agent's half of that NodeAttestor.

import { createHmac } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { requiredText, servePlugin } from 'turret/plugin'

await servePlugin({
  kind: 'agent/NodeAttestor',

  read: ({ data }) => ({ machine: requiredText(data, 'machine'), path: requiredText(data, 'secret_path') }),

  make: ({ machine, path }) => ({
    async *aidAttestation(challenges) {
      yield { payload: new TextEncoder().encode(machine) }
      for await (const { challenge } of challenges) {
        const secret = readFileSync(path, 'utf8').trim()
        yield { challengeResponse: createHmac('sha256', secret).update(challenge).digest() }
      }
    },
  }),
})
