import type { Bundle } from '../core/bundle.ts'
import { errorMessage, StatusError } from '../core/error.ts'
import type { Log } from '../core/log.ts'
import type { BundlePublisher, Notifier } from '../core/plugin.ts'
import type { ChangeLog } from '../core/store.ts'
import type { TrustDomain } from '../core/trust-domain.ts'
import type { UpkeepTask } from './upkeep.ts'

export interface BundleNewsOptions {
  readonly trustDomain: TrustDomain
  /** The own bundle as it is now. */
  readonly bundle: () => Promise<Bundle | undefined>
  readonly changes: Pick<ChangeLog, 'subscribe'>
  readonly notifiers: readonly Notifier[]
  readonly publishers: readonly BundlePublisher[]
  readonly log: Log
}

/** SPIRE's: a publisher is told what it may have failed to publish, or what somebody took away. */
const PUBLISH_EVERY_MS = 30_000

/**
 * Tells notifiers and publishers of the own bundle: each on its own, so that a slow one holds up nobody, and each of the newest bundle only.
 * @returns tells notifiers that the bundle is loaded and from then on everybody of each change; what it gives is periodic work
 */
export function bundleNews(options: BundleNewsOptions): {
  /** @throws StatusError if a notifier advises against going on */
  loaded(): Promise<void>
  readonly tasks: readonly UpkeepTask[]
} {
  const { trustDomain, changes, notifiers, publishers, log } = options

  async function current(): Promise<Bundle> {
    const bundle = await options.bundle()
    if (!bundle) throw new StatusError('NOT_FOUND', 'trust domain bundle is missing')
    return bundle
  }
  const notify = notifiers.map((notifier) =>
    latestOnly(async () => {
      const fields = { notifier: notifier.name, event: 'bundle updated' }
      try {
        await notifier.bundleUpdated(await current())
        log.debug('Notifier handled event', fields)
      } catch (error) {
        log.warn('Notifier failed to handle event', { ...fields, error: errorMessage(error) })
      }
    }),
  )
  const publish = publishers.map((publisher) =>
    latestOnly(async () => {
      try {
        await publisher.publish(await current())
      } catch (error) {
        log.error('Failed to publish bundle', { BundlePublisher: publisher.name, error: errorMessage(error) })
      }
    }),
  )
  const publishAll = (): void => {
    for (const one of publish) one()
  }

  return {
    async loaded() {
      // What changes while they think about it is news.
      const tellAll = () => {
        for (const one of notify) one()
        publishAll()
      }
      changes.subscribe((news) => {
        if (news.some(({ kind, key }) => kind === 'bundle' && key === trustDomain)) tellAll()
      }, tellAll)
      const bundle = await current()
      const outcomes = await Promise.allSettled(notifiers.map((notifier) => notifier.bundleLoaded(bundle)))
      const failed = outcomes.flatMap((outcome, index) => {
        const fields = { notifier: notifiers[index]!.name, event: 'bundle loaded' }
        if (outcome.status === 'fulfilled') {
          log.debug('Notifier handled event', fields)
          return []
        }
        log.error('Notifier failed to handle event', { ...fields, error: errorMessage(outcome.reason) })
        return [outcome.reason]
      })
      if (failed.length > 0) {
        throw new StatusError('INTERNAL', `one or more notifiers returned an error: ${errorMessage(failed[0])}`)
      }
      publishAll()
    },
    tasks: publishers.length === 0 ? [] : [{ everyMs: PUBLISH_EVERY_MS, run: async () => publishAll() }],
  }
}

/** Runs something once at a time; whoever asks meanwhile has it run once more. */
function latestOnly(run: () => Promise<void>): () => void {
  let running = false
  let again = false
  return () => {
    again = true
    if (running) return
    running = true
    void (async () => {
      while (again) {
        again = false
        await run()
      }
      running = false
    })()
  }
}
