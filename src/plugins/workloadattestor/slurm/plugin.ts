import { StatusError } from '../../../core/error.ts'
import type { PeerProcess, WorkloadAttestor } from '../../../core/plugin.ts'
import { half, type PluginDeclaration } from '../../plugin.ts'
import { withoutData } from '../../plugin-data.ts'
import { cgroupsOf } from '../../process/container.ts'
import { HeldProcess } from '../../process/held-process.ts'

/** From the root on: below a user's slice anybody may make cgroups of such names. */
const STEP = /^\/system\.slice\/[^/]*slurmstepd\.scope\/(job_\d+|s[0-9A-Za-z]+)\/step_([^/]+)/

/** Tells a process by its Slurm job. Values: `job_id` or `sluid`, and `step`. A process outside of jobs has none. */
export function slurmAttestor(procPath = '/proc'): WorkloadAttestor {
  async function attest(peer: PeerProcess): Promise<readonly string[]> {
    const process = new HeldProcess(procPath, peer)
    try {
      const steps = new Map<string, RegExpExecArray>()
      for (const { path } of cgroupsOf(process)) {
        const match = STEP.exec(path)
        if (match) steps.set(`${match[1]}/step_${match[2]}`, match)
      }
      process.assertSame()
      const [first, second] = steps.keys()
      if (first === undefined) return []
      if (second !== undefined)
        throw new StatusError('FAILED_PRECONDITION', `multiple Slurm jobs found in cgroups (${first}, ${second})`)
      const [, job, step] = steps.get(first)!
      return [job!.startsWith('job_') ? `job_id:${job!.slice(4)}` : `sluid:${job}`, `step:${step}`]
    } finally {
      process.close()
    }
  }

  return { name: 'slurm', attest }
}

const declaration: PluginDeclaration<'WorkloadAttestor'> = {
  agent: half({
    keys: [],
    read: withoutData,
    make: (_, { env }) => slurmAttestor(env.HOST_PROC || '/proc'),
  }),
}
export default declaration
