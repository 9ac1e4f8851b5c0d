import { type Clock, type EpochSeconds, epochSeconds } from '../core/clock.ts'
import { errorMessage } from '../core/error.ts'
import type { Log } from '../core/log.ts'
import type { KeyManager } from '../core/plugin.ts'
import type { Store } from '../core/store.ts'
import type { TrustDomain } from '../core/trust-domain.ts'
import type { CaManager } from './ca-manager.ts'
import { pruneJournals } from './journal.ts'
import { type NodePruning, pruneBundle, pruneEntries, pruneNodes } from './pruning.ts'
import type { ServerSvidRotation } from './server-svid.ts'

/** Whoever has not followed the change log for longer looks at everything. */
const CHANGES_KEPT_SECONDS = 24 * 3600

/** Who comes late with a join token hears for a day that it has expired. */
const JOIN_TOKENS_KEPT_SECONDS = 24 * 3600

/** Something to be done again and again: idempotent, and harmless if it comes late or too often. */
export interface UpkeepTask {
  readonly everyMs: number
  /** Waits vary by this part of the interval, so that replicas do not act together; default 0. */
  readonly jitter?: number
  /** What is logged when a run fails. Absent: the task logs its failures itself. */
  readonly failure?: string
  run(): Promise<void>
}

export interface UpkeepDeps {
  readonly trustDomain: TrustDomain
  readonly caTtlSeconds: number
  /** undefined: attested nodes are never pruned. */
  readonly nodePruning: NodePruning | undefined
  readonly store: Store
  readonly keyManager: KeyManager
  readonly manager: CaManager
  readonly svid: ServerSvidRotation
  readonly clock: Clock
  readonly log: Log
}

/** All periodic work of a server. A process with timers gives each task its own; others call `maintain`. */
export function upkeepTasks(deps: UpkeepDeps): readonly UpkeepTask[] {
  const { trustDomain, nodePruning, store, keyManager, manager, svid, clock, log } = deps
  const now = () => epochSeconds(clock)
  const caLog = log.child({ subsystem_name: 'ca_manager' })
  const entryLog = log.child({ subsystem_name: 'registration_manager' })
  const nodeLog = log.child({ subsystem_name: 'node_manager' })
  return [
    { everyMs: rotationIntervalMs(deps.caTtlSeconds), run: () => manager.rotate() },
    { everyMs: 5_000, failure: 'Could not rotate server SVID', run: () => svid.rotateIfDue() },
    { everyMs: 5 * 60_000, failure: 'Could not look after the keys', run: async () => keyManager.maintain?.(now()) },
    {
      everyMs: 3600_000,
      failure: 'Could not prune the change log',
      run: () => store.changes.prune(now() - CHANGES_KEPT_SECONDS),
    },
    {
      everyMs: 6 * 3600_000,
      failure: 'Could not prune CA certificates',
      run: () => pruneBundle(store.bundles, trustDomain, now(), caLog),
    },
    {
      everyMs: 8 * 3600_000,
      failure: 'Could not prune CA journals',
      run: async () => {
        await pruneJournals(store.journals, now())
      },
    },
    {
      everyMs: 5 * 60_000,
      failure: 'Failed pruning registration entries',
      run: () => pruneEntries(store.entries, now(), entryLog),
    },
    {
      everyMs: 3600_000,
      failure: 'Could not prune join tokens',
      run: () => store.joinTokens.prune(now() - JOIN_TOKENS_KEPT_SECONDS),
    },
    { everyMs: 10 * 60_000, failure: 'Could not prune one-time uses', run: () => store.uses.prune(now()) },
    ...(nodePruning === undefined
      ? []
      : [
          {
            everyMs: 3600_000,
            jitter: 0.25,
            failure: 'Failed pruning attested nodes',
            run: () => pruneNodes(store.nodes, nodePruning, now(), nodeLog),
          },
        ]),
  ]
}

/** Periodic work where nobody has timers: a scheduler calls `maintain`, and requests do when it is late. */
export interface Upkeep {
  /** Whether something is due; costs nothing. */
  due(now: EpochSeconds): boolean
  /** Does what is due, one task after the other; calls at the same time share one run. Failures are logged and tried again next time. */
  maintain(now: EpochSeconds): Promise<void>
}

/** Remembers when each task last ran here. Nothing ran before the first call, so the first one does everything. */
export function upkeepOf(tasks: readonly UpkeepTask[], log: Log): Upkeep {
  const nextAtMs = new Map(tasks.map((task) => [task, 0]))
  let running: Promise<void> | undefined

  async function run(now: EpochSeconds): Promise<void> {
    for (const task of tasks) {
      if (nextAtMs.get(task)! > now * 1000) continue
      nextAtMs.set(task, now * 1000 + task.everyMs)
      try {
        await task.run()
      } catch (error) {
        if (task.failure !== undefined) log.error(task.failure, { error: errorMessage(error) })
      }
    }
  }

  return {
    due: (now) => tasks.some((task) => nextAtMs.get(task)! <= now * 1000),
    maintain(now) {
      running ??= run(now).finally(() => {
        running = undefined
      })
      return running
    },
  }
}

/** SPIRE looks every 10 seconds; a CA that lives for less than minutes would be over before its successor is due. */
function rotationIntervalMs(caTtlSeconds: number): number {
  return Math.min(10_000, (caTtlSeconds * 1000) / 20)
}
