import { parseCertificate } from '../core/certificate.ts'
import { type Clock, type EpochSeconds, epochSeconds } from '../core/clock.ts'
import type { KeyType, Signer } from '../core/key-type.ts'
import type { Log } from '../core/log.ts'
import { issuingKeyId } from '../core/path-validation.ts'
import { rfc3339 } from '../core/rfc3339.ts'
import type { SpiffeId } from '../core/spiffe-id.ts'
import type { Ca } from './ca.ts'

/** The identity that a server shows on its TCP listener. The key lives in memory only. */
export interface ServerSvid {
  /** DER, leaf first. */
  readonly chain: readonly Uint8Array[]
  readonly key: Signer
  readonly notBefore: EpochSeconds
  readonly notAfter: EpochSeconds
  /** Hex key id of the root that the chain leads to. */
  readonly rootKeyId: string
}

export interface ServerSvidDeps {
  readonly ca: Ca
  readonly newKey: (type: KeyType) => Promise<Signer>
  readonly keyType: KeyType
  readonly id: SpiffeId
  readonly clock: Clock
  readonly log: Log
  /** Hex key ids of the roots that are tainted now, by whichever replica. */
  readonly taintedRoots?: () => Promise<readonly string[]>
  /** Told of each new SVID, the first one too. */
  readonly onRotated: (svid: ServerSvid) => void
}

/** Keeps the server's own SVID fresh. @see server.md 1.3 */
export class ServerSvidRotation {
  readonly #deps: ServerSvidDeps
  readonly #tainted = new Set<string>()
  #current: ServerSvid | undefined

  constructor(deps: ServerSvidDeps) {
    this.#deps = deps
  }

  get current(): ServerSvid | undefined {
    return this.#current
  }

  /** What these authorities (hex key ids) signed is replaced at the next check. */
  taint(keyIds: readonly string[]): void {
    for (const id of keyIds) this.#tainted.add(id)
  }

  /** Makes a new SVID if there is none, half its life is over, or its root was tainted. Call it every 5 seconds. */
  async rotateIfDue(): Promise<void> {
    const { clock, log } = this.#deps
    this.taint((await this.#deps.taintedRoots?.()) ?? [])
    const current = this.#current
    const now = epochSeconds(clock)
    if (current && !this.#tainted.has(current.rootKeyId) && now <= (current.notBefore + current.notAfter) / 2) return
    log.debug('Rotating server SVID')
    this.#current = await this.#make()
    log.debug('Signed X509 SVID', { spiffe_id: this.#deps.id, expiration: rfc3339(this.#current.notAfter) })
    this.#deps.onRotated(this.#current)
  }

  async #make(): Promise<ServerSvid> {
    const key = await this.#deps.newKey(this.#deps.keyType)
    const { chain } = await this.#deps.ca.signServerX509(key.publicKey)
    const leaf = parseCertificate(chain[0]!)
    return {
      chain,
      key,
      notBefore: leaf.notBefore,
      notAfter: leaf.notAfter,
      rootKeyId: issuingKeyId(parseCertificate(chain[chain.length - 1]!)),
    }
  }
}
