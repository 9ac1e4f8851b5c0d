import { afterAll, expect, test } from 'vitest'
import { FakeProc } from '../../../../test/support/proc.ts'
import { slurmAttestor } from './plugin.ts'

const proc = new FakeProc()
afterAll(() => proc.remove())
const peer = { pid: 7, uid: 1000, gid: 1000 }
const attest = (cgroup: string) => {
  proc.set(7, { cgroup })
  return slurmAttestor(proc.path).attest(peer, new AbortController().signal)
}

test.each([
  ['0::/system.slice/slurmstepd.scope/job_42/step_0/user/task_0\n', ['job_id:42', 'step:0']],
  ['0::/system.slice/node1_slurmstepd.scope/s1ABC/step_batch/slurm\n', ['sluid:s1ABC', 'step:batch']],
  ['0::/system.slice/ssh.service\n', []],
  ['0::/user.slice/user-1000.slice/system.slice/slurmstepd.scope/job_42/step_0\n', []],
])('%j', async (cgroup, values) => {
  expect(await attest(cgroup)).toEqual(values)
})

test('two jobs are no job', async () => {
  const line = (job: number) => `${job}:x:/system.slice/slurmstepd.scope/job_${job}/step_0\n`
  await expect(attest(line(1) + line(2))).rejects.toThrow(
    'multiple Slurm jobs found in cgroups (job_1/step_0, job_2/step_0)',
  )
})
