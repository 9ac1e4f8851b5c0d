import type { Certificate } from '../core/certificate.ts'
import type { EpochSeconds } from '../core/clock.ts'
import { equalBytes, hex } from '../core/der.ts'
import type { VerifiedX509Svid } from '../core/path-validation.ts'

const MAX_CHAINS = 2000
/** Of the end of a leaf, where its signature is: bytes that nobody chooses. */
const KEY_BYTES = 16

interface Known {
  readonly chain: readonly Uint8Array[]
  readonly verified: VerifiedX509Svid
  readonly notBefore: EpochSeconds
  readonly notAfter: EpochSeconds
}

/**
 * Chains that were verified to one set of roots: an agent shows the same one with each request of its life. A new set forgets all of them.
 * Only what was found good is kept, compared byte by byte, so that strangers can neither fill it nor be taken for others.
 */
export class KnownChains {
  readonly #known = new Map<string, Known>()
  #roots: readonly Certificate[] | undefined

  /** @returns what the same chain was verified to be, if all of its path is valid at this moment */
  get(chain: readonly Uint8Array[], roots: readonly Certificate[], at: EpochSeconds): VerifiedX509Svid | undefined {
    this.#follow(roots)
    const key = keyOf(chain)
    const found = this.#known.get(key)
    if (!found || at < found.notBefore || at > found.notAfter || !sameChain(chain, found.chain)) return undefined
    this.#known.delete(key)
    this.#known.set(key, found)
    return found.verified
  }

  /** @param roots that it was verified to; the chain's bytes are the caller's no longer */
  add(chain: readonly Uint8Array[], roots: readonly Certificate[], verified: VerifiedX509Svid): void {
    // A bundle that changed while we looked at another one: the newer one counts.
    if (roots !== this.#roots) return
    const notBefore = Math.max(...verified.path.map((certificate) => certificate.notBefore))
    const notAfter = Math.min(...verified.path.map((certificate) => certificate.notAfter))
    this.#known.set(keyOf(chain), { chain, verified, notBefore, notAfter })
    if (this.#known.size > MAX_CHAINS) this.#known.delete(this.#known.keys().next().value!)
  }

  #follow(roots: readonly Certificate[]): void {
    if (roots === this.#roots) return
    this.#roots = roots
    this.#known.clear()
  }
}

function keyOf(chain: readonly Uint8Array[]): string {
  return chain.length === 0 ? '' : hex(chain[0]!.subarray(-KEY_BYTES))
}

function sameChain(a: readonly Uint8Array[], b: readonly Uint8Array[]): boolean {
  return a.length === b.length && a.every((der, index) => equalBytes(der, b[index]!))
}
