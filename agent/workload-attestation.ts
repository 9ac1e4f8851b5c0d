import type { CountedLog } from '../src/core/counted-log.ts'
import { errorMessage, StatusError } from '../src/core/error.ts'
import type { Log } from '../src/core/log.ts'
import type { PeerProcess, WorkloadAttestor } from '../src/core/plugin.ts'

/** A process on the other end of a connection, watched since the connection was made. */
export interface WatchedProcess extends PeerProcess {
  /**
   * Makes sure that the pid still names the process that connected.
   * @throws Error otherwise
   */
  assertAlive(): void
}

export type AttestWorkload = (peer: WatchedProcess, signal: AbortSignal) => Promise<readonly string[]>

/**
 * Makes the function that turns a process into its selectors (`type:value`, unsorted): all attestors at once; one that fails
 * is logged and its selectors are missing (`failures` counts for whom: they can have it written as often as they ask). Whether the process is still the one that connected is checked after they answered, so
 * that what was read of a successor with the same pid is never used.
 *
 * @throws StatusError UNAVAILABLE `workload attestation failed` if all attestors failed or the process is gone; no reason is told
 */
export function workloadAttestation(
  attestors: readonly WorkloadAttestor[],
  log: Log,
  failures: CountedLog,
): AttestWorkload {
  return async (peer, signal) => {
    const outcomes = await Promise.allSettled(attestors.map((attestor) => attestor.attest(peer, signal)))
    const selectors: string[] = []
    let failed = 0
    for (const [index, outcome] of outcomes.entries()) {
      const { name } = attestors[index]!
      if (outcome.status === 'fulfilled') {
        for (const value of outcome.value) selectors.push(`${name}:${value}`)
      } else {
        failed += 1
        failures.of({ caller_uid: peer.uid }).error('Failed to collect all selectors', {
          pid: peer.pid,
          error: `workload attestor "${name}" failed: ${errorMessage(outcome.reason)}`,
        })
      }
    }
    signal.throwIfAborted()
    if (failed === attestors.length) throw new StatusError('UNAVAILABLE', 'workload attestation failed')
    try {
      peer.assertAlive()
    } catch (error) {
      failures
        .of({ caller_uid: peer.uid })
        .warn('could not verify existence of the original caller', { pid: peer.pid, error: errorMessage(error) })
      throw new StatusError('UNAVAILABLE', 'workload attestation failed', { cause: error })
    }
    if (log.debugEnabled && peer.pid !== process.pid) {
      log.debug('PID attested to have selectors', { pid: peer.pid, selectors: selectors.join(',') })
    }
    return selectors
  }
}
