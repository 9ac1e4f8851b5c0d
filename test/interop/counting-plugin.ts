import { servePlugin } from 'turret/plugin'

// A workload attestor that calls its host back.
await servePlugin({
  kind: 'agent/WorkloadAttestor',
  read: ({ trustDomain }) => trustDomain,
  make: (trustDomain, { metrics }) => ({
    attest({ pid }) {
      metrics.incrCounter(['asked'], 1)
      return { selectorValues: [`${trustDomain}:${pid}`] }
    },
  }),
})
