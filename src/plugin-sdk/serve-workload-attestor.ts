import { readFile } from 'node:fs/promises'
import { errorMessage, StatusError } from '../core/error.ts'
import type { WorkloadAttestor } from '../core/plugin.ts'
import type { Implementation } from './kinds.ts'

/** A workload attestor as a plugin. Hosts say the process, and not which ids it had when it connected: it has those of now. */
export function servedWorkloadAttestor(attestor: WorkloadAttestor): Implementation<'agent/WorkloadAttestor'> {
  return {
    async attest({ pid }, { signal }) {
      const status = await readFile(`/proc/${pid}/status`, 'latin1').catch((cause) => {
        throw new StatusError('INTERNAL', `failed to read status of process ${pid}: ${errorMessage(cause)}`, { cause })
      })
      const effective = (name: string) => Number(new RegExp(`^${name}:\\t\\d+\\t(\\d+)`, 'm').exec(status)?.[1])
      const peer = { pid, uid: effective('Uid'), gid: effective('Gid') }
      return { selectorValues: [...(await attestor.attest(peer, signal))] }
    },
  }
}
