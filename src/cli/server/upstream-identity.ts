import { type Certificate, parseCertificate } from '../../core/certificate.ts'
import { StatusError } from '../../core/error.ts'
import { importSigner } from '../../plugins/signer.ts'
import { x509Credential } from '../../transport/http-signature.ts'
import type { Credential } from '../../transport/message-signature.ts'
import type { TlsIdentity } from '../../transport/tls.ts'
import { pause } from '../periodic.ts'

/** An SVID of this server that the server above knows as one of a server below, and what it trusts itself. */
export interface DownstreamSvid {
  /** DER, leaf first. */
  readonly chain: readonly Uint8Array[]
  /** PKCS#8 DER. */
  readonly privateKey: Uint8Array
  /** DER. */
  readonly roots: readonly Uint8Array[]
}

/** Where a source of SVIDs puts them. */
export interface TakeIdentity {
  identity(svid: DownstreamSvid): void
  /** Why there is none for now; told to who waits for one. */
  failure(reason: string): void
}

/** How long a call waits for an SVID. */
const TIMEOUT_MS = 60_000

/** Who this server is to the server above it: empty at first, then always the newest SVID of its source. */
export class UpstreamIdentity implements TakeIdentity {
  #current: TlsIdentity | undefined
  #signing: Credential | undefined
  #roots: readonly Certificate[] = []
  readonly #signal: AbortSignal
  #reason = 'there is none yet'
  #arrived = () => {}
  readonly #first = new Promise<void>((resolve) => {
    this.#arrived = resolve
  })

  /** @param signal ends the waiting of who waits */
  constructor(signal: AbortSignal) {
    this.#signal = signal
  }

  get current(): TlsIdentity | undefined {
    return this.#current
  }

  /** The same identity for signing requests over HTTP. */
  get signing(): Credential | undefined {
    return this.#signing
  }

  get roots(): readonly Certificate[] {
    return this.#roots
  }

  identity({ chain, privateKey, roots }: DownstreamSvid): void {
    this.#current = { certificates: chain, privateKey }
    this.#signing = x509Credential({ chain, signer: importSigner(privateKey) })
    this.#roots = roots.map((der) => parseCertificate(der))
    this.#arrived()
  }

  failure(reason: string): void {
    this.#reason = reason
  }

  /** Resolves once there is an SVID. @throws StatusError UNAVAILABLE if there is none for a minute, or at the end */
  async ready(): Promise<void> {
    if (this.#current) return
    const arrived = new AbortController()
    await Promise.race([this.#first, pause(TIMEOUT_MS, AbortSignal.any([this.#signal, arrived.signal]))])
    arrived.abort()
    if (!this.#current) throw new StatusError('UNAVAILABLE', this.#reason)
  }
}
