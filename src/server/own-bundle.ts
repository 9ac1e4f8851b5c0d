import type { Bundle } from '../core/bundle.ts'
import type { Store } from '../core/store.ts'
import type { TrustDomain } from '../core/trust-domain.ts'

/**
 * The bundle of the server's own trust domain, kept in memory until the change log says that it changed: it is read by
 * every handshake and by the most frequent call there is.
 */
export class OwnBundle {
  readonly trustDomain: TrustDomain
  readonly #store: Pick<Store, 'bundles' | 'changes'>
  readonly #unsubscribe: () => void
  #bundle: Bundle | undefined
  #generation = 0
  #encoded = new Map<number, Uint8Array>()

  constructor(store: Pick<Store, 'bundles' | 'changes'>, trustDomain: TrustDomain) {
    this.#store = store
    this.trustDomain = trustDomain
    this.#unsubscribe = store.changes.subscribe(
      (changes) => {
        if (changes.some((change) => change.kind === 'bundle' && change.key === trustDomain)) this.invalidate()
      },
      () => this.invalidate(),
    )
  }

  /** The bundle as it is now; undefined before the first CA was made. */
  async get(): Promise<Bundle | undefined> {
    if (this.#bundle !== undefined) return this.#bundle
    const generation = this.#generation
    const bundle = await this.#store.bundles.get(this.trustDomain)
    // A write that landed while we read makes what we read too old to keep.
    if (generation === this.#generation) this.#bundle = bundle
    return bundle
  }

  /** The bytes of this bundle under `key`, made once per version of the bundle. */
  encoded(bundle: Bundle, key: number, encode: () => Uint8Array): Uint8Array {
    if (bundle !== this.#bundle) return encode()
    let bytes = this.#encoded.get(key)
    if (bytes === undefined) {
      bytes = encode()
      this.#encoded.set(key, bytes)
    }
    return bytes
  }

  /** For writes of other replicas, which this process only sees by polling. */
  invalidate(): void {
    this.#generation++
    this.#bundle = undefined
    this.#encoded = new Map()
  }

  close(): void {
    this.#unsubscribe()
  }
}
