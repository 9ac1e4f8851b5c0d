import { setTimeout as sleep } from 'node:timers/promises'
import { CallError } from '../client.ts'
import { defineCommand } from '../command.ts'
import { userMessage } from '../failure.ts'
import { WORKLOAD_HEADER, workload } from '../workload-methods.ts'
import { agentClient, WORKLOAD_SOCKET_FLAGS } from './workload-command.ts'
import { readX509Response, x509Text } from './x509-response.ts'

const MAX_WAIT_SECONDS = 30

/** `api watch`: prints the SVIDs of the calling process on every update, until interrupted; connects again after errors. */
export const command = defineCommand({
  name: 'watch',
  flags: WORKLOAD_SOCKET_FLAGS,
  repeatFlagError: '',
  async run(flags, { env, now, stdout, stderr }) {
    const api = agentClient(flags, env)
    const interrupted = new AbortController()
    process.once('SIGINT', () => interrupted.abort())
    const { signal } = interrupted
    let last = performance.now()
    for (let failures = 0; ; ) {
      try {
        for await (const response of api.stream(workload.fetchX509Svid, {}, { metadata: WORKLOAD_HEADER, signal })) {
          failures = 0
          const content = await readX509Response(response, now())
          const options = { hints: false, federatedLabel: (id: string) => id.slice('spiffe://'.length) }
          stdout(x509Text(content, performance.now() - last, options))
          last = performance.now()
        }
        stderr('EOF\n')
      } catch (error) {
        const message = userMessage(error)
        if (message === undefined) throw error
        stderr(`${message}\n`)
        const code = error instanceof CallError ? error.status.code : undefined
        // The agent says that asking again is of no use.
        if (signal.aborted || code === 'INVALID_ARGUMENT') {
          stderr(`${message}\n`)
          return 1
        }
      }
      failures++
      const seconds = Math.min(failures, MAX_WAIT_SECONDS)
      await sleep(seconds * 1000, undefined, { signal }).catch(() => undefined)
      if (signal.aborted) {
        stderr('context canceled\n')
        return 1
      }
    }
  },
})
