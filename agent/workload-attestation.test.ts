import { expect, test } from 'vitest'
import { countedLog } from '../src/core/counted-log.ts'
import { type Log, type LogFields, silentLog } from '../src/core/log.ts'
import type { WorkloadAttestor } from '../src/core/plugin.ts'
import { rejection } from '../test/support/server.ts'
import { type WatchedProcess, workloadAttestation } from './workload-attestation.ts'

const PEER: WatchedProcess = { pid: process.pid + 1, uid: 7, gid: 8, assertAlive() {} }
const NOBODY_LEFT = new AbortController().signal

const attestor = (name: string, ...values: readonly string[]): WorkloadAttestor => ({
  name,
  attest: async () => values,
})
const failing = (name: string): WorkloadAttestor => ({
  name,
  attest: () => Promise.reject(new Error(`the secret of ${name}`)),
})

/** Attests with these attestors, and keeps what is logged. */
function setUp(attestors: readonly WorkloadAttestor[], debugEnabled = true) {
  const lines: string[] = []
  const write = (message: string, fields: LogFields = {}) =>
    void lines.push(`${message} ${JSON.stringify({ ...fields, pid: undefined })}`)
  const log: Log = { ...silentLog, debug: write, warn: write, error: write, debugEnabled }
  const attest = workloadAttestation(attestors, log, countedLog(log, { clock: { nowMs: () => 0 } }))
  return { lines, attest }
}

test('the selectors of all attestors come together, each under the name of its own', async () => {
  const { attest, lines } = setUp([attestor('unix', 'uid:7', 'gid:8'), attestor('docker'), attestor('systemd', 'id:a')])
  expect(await attest(PEER, NOBODY_LEFT)).toEqual(['unix:uid:7', 'unix:gid:8', 'systemd:id:a'])
  expect(lines).toEqual(['PID attested to have selectors {"selectors":"unix:uid:7,unix:gid:8,systemd:id:a"}'])
})

test('an attestor is asked for the process that calls, and told when the caller leaves', async () => {
  const asked: unknown[] = []
  const { attest } = setUp([
    {
      name: 'unix',
      async attest(...given) {
        asked.push(...given)
        return []
      },
    },
  ])
  await attest(PEER, NOBODY_LEFT)
  expect(asked).toEqual([PEER, NOBODY_LEFT])
})

test('one that fails gives no selectors, takes none of the others away, and is logged', async () => {
  const { attest, lines } = setUp([failing('docker'), attestor('unix', 'uid:7')], false)
  expect(await attest(PEER, NOBODY_LEFT)).toEqual(['unix:uid:7'])
  expect(lines).toEqual([
    'Failed to collect all selectors {"error":"workload attestor \\"docker\\" failed: the secret of docker"}',
  ])
})

test('where all of them fail nobody is attested, and the caller is not told why', async () => {
  const { attest } = setUp([failing('docker'), failing('unix')])
  expect(await rejection(attest(PEER, NOBODY_LEFT))).toBe('UNAVAILABLE: workload attestation failed')
})

test('whoever has the pid of a caller that ended in the meantime is not attested', async () => {
  let alive = true
  const peer: WatchedProcess = {
    ...PEER,
    assertAlive() {
      if (!alive) throw new Error('the caller has ended')
    },
  }
  const successor: WorkloadAttestor = {
    name: 'unix',
    async attest() {
      alive = false
      return ['uid:0']
    },
  }
  const { attest, lines } = setUp([successor])
  expect(await rejection(attest(peer, NOBODY_LEFT))).toBe('UNAVAILABLE: workload attestation failed')
  expect(lines).toEqual(['could not verify existence of the original caller {"error":"the caller has ended"}'])
})

test('a caller that left is given nothing, whatever the attestors found', async () => {
  const left = new AbortController()
  const slow: WorkloadAttestor = {
    name: 'unix',
    async attest() {
      left.abort(new Error('the caller left'))
      return ['uid:7']
    },
  }
  await expect(setUp([slow]).attest(PEER, left.signal)).rejects.toThrow('the caller left')
})

test('the selectors of the agent itself, and those of all others unless they are asked for, are not logged', async () => {
  const own = setUp([attestor('unix', 'uid:7')])
  await own.attest({ ...PEER, pid: process.pid }, NOBODY_LEFT)
  const quiet = setUp([attestor('unix', 'uid:7')], false)
  await quiet.attest(PEER, NOBODY_LEFT)
  expect([...own.lines, ...quiet.lines]).toEqual([])
})
