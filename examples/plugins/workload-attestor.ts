#!/usr/bin/env node
// A WorkloadAttestor: tells a workload by variables of its environment, `variable:NAME:value`.

import { readFile } from 'node:fs/promises'
import { StatusError, servePlugin } from 'turret/plugin'

await servePlugin({
  kind: 'agent/WorkloadAttestor',

  read({ data }) {
    const { variables } = data
    if (!Array.isArray(variables)) throw new Error('variables must be a list of names')
    return variables.map(String)
  },

  make: (names, { log }) => ({
    async attest({ pid }) {
      const text = await readFile(`/proc/${pid}/environ`, 'utf8').catch((cause) => {
        throw new StatusError('INTERNAL', `cannot read the environment of process ${pid}`, { cause })
      })
      const found = text.split('\0').filter((entry) => names.includes(entry.slice(0, entry.indexOf('='))))
      log.debug('Environment read', { pid, found: found.length })
      return { selectorValues: found.map((entry) => `variable:${entry.replace('=', ':')}`) }
    },
  }),
})
