import type { JwtAuthority } from '../core/bundle.ts'
import { StatusError } from '../core/error.ts'
import type { Log } from '../core/log.ts'
import type { UpstreamAuthority } from '../core/plugin.ts'
import type { BundleStore } from '../core/store.ts'
import type { TrustDomain } from '../core/trust-domain.ts'

export interface KeyPublisherDeps {
  readonly trustDomain: TrustDomain
  readonly upstream: UpstreamAuthority | undefined
  readonly log: Log
}

const PUBLISH_TIMEOUT_MS = 5000

/** Publishes keys for everybody in the trust domain: upstream if there is one that takes them, and in the own bundle. */
export class KeyPublisher {
  readonly #deps: KeyPublisherDeps
  readonly #warned = new Set<string>()

  constructor(deps: KeyPublisherDeps) {
    this.#deps = deps
  }

  /** @returns all JWT keys of the own bundle */
  async publishJwt(bundles: BundleStore, key: JwtAuthority): Promise<readonly JwtAuthority[]> {
    const { upstream, trustDomain } = this.#deps
    const known = await this.#publishUpstream('JWT', upstream?.publishJwtKey?.bind(upstream), key)
    return (await bundles.append({ trustDomain, jwtAuthorities: known ?? [key] })).jwtAuthorities
  }

  /** The same for a WIT key. */
  async publishWit(bundles: BundleStore, key: JwtAuthority): Promise<readonly JwtAuthority[]> {
    const { upstream, trustDomain } = this.#deps
    const known = await this.#publishUpstream('WIT', upstream?.publishWitKey?.bind(upstream), key)
    return (await bundles.append({ trustDomain, witAuthorities: known ?? [key] })).witAuthorities
  }

  /** @returns what the upstream knows; undefined if it takes none of these keys */
  async #publishUpstream(
    what: 'JWT' | 'WIT',
    publish: ((key: JwtAuthority) => Promise<readonly JwtAuthority[] | undefined>) | undefined,
    key: JwtAuthority,
  ): Promise<readonly JwtAuthority[] | undefined> {
    const { upstream, log } = this.#deps
    if (!upstream) return undefined
    const known =
      publish && (await withTimeout(publish(key), PUBLISH_TIMEOUT_MS, `publishing the ${what} key upstream timed out`))
    if (known === undefined && !this.#warned.has(what)) {
      this.#warned.add(what)
      log.warn(
        `UpstreamAuthority plugin does not support ${what}-SVIDs. Workloads managed by this server may have trouble communicating with workloads outside this cluster when using ${what}-SVIDs.`,
        { plugin_name: upstream.name },
      )
    }
    return known
  }
}

function withTimeout<T>(work: Promise<T>, ms: number, message: string): Promise<T> {
  return Promise.race([
    work,
    new Promise<never>((_, reject) => {
      AbortSignal.timeout(ms).addEventListener('abort', () => reject(new StatusError('DEADLINE_EXCEEDED', message)))
    }),
  ])
}
