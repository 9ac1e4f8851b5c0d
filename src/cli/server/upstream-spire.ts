import { X509SVIDRequest, X509SVIDResponse } from '../../../proto/spiffe/workload.ts'
import { type Certificate, parseCertificate, parseCertificates } from '../../core/certificate.ts'
import { type Clock, epochSeconds } from '../../core/clock.ts'
import { errorMessage, StatusError } from '../../core/error.ts'
import type { Log } from '../../core/log.ts'
import { verifyX509Svid } from '../../core/path-validation.ts'
import type { UpstreamAuthority } from '../../core/plugin.ts'
import type { VerifySignature } from '../../core/public-key.ts'
import { serverId } from '../../core/spiffe-id.ts'
import type { TrustDomain } from '../../core/trust-domain.ts'
import { importSigner } from '../../plugins/signer.ts'
import { spireUpstreamAuthority } from '../../server/upstream-spire.ts'
import { connect } from '../../transport/grpc-client.ts'
import { connectHttp } from '../../transport/http-client.ts'
import type { HttpIdentity } from '../../transport/http-signature.ts'
import type { TlsIdentity } from '../../transport/tls.ts'
import { pause } from '../periodic.ts'

export interface UpstreamSpireOptions {
  readonly trustDomain: TrustDomain
  /** Of the server above: host and port for gRPC, or the URL of its HTTP plane. */
  readonly server: { readonly address: string; readonly port: number } | { readonly url: string }
  /** Absolute path of the Workload API socket of the agent beside this server. */
  readonly workloadApiSocket: string
  readonly clock: Clock
  readonly verify: VerifySignature
  readonly log: Log
}

const FETCH_X509_SVID = {
  path: '/SpiffeWorkloadAPI/FetchX509SVID',
  request: X509SVIDRequest,
  response: X509SVIDResponse,
}
const POLL_INTERVAL_MS = 5_000
const RETRY_MS = 1_000
/** How long a call waits for the agent to hand out an SVID. */
const IDENTITY_TIMEOUT_MS = 60_000

/**
 * The upstream authority `spire`: takes this server's SVID from the agent beside it, keeps it fresh, and calls the server above
 * with it.
 */
export async function connectUpstreamSpire(options: UpstreamSpireOptions): Promise<UpstreamAuthority> {
  const { trustDomain, log, clock, verify } = options
  const stop = new AbortController()
  const identity = new WorkloadIdentity(options, stop.signal)
  const expected = serverId(trustDomain)
  const verifyServer = async (chain: readonly Uint8Array[]) => {
    const { spiffeId } = await verifyX509Svid({ chain, rootsOf: () => identity.roots, at: epochSeconds(clock), verify })
    if (spiffeId !== expected) throw new StatusError('UNAUTHENTICATED', `unexpected ID ${JSON.stringify(spiffeId)}`)
  }
  const channel =
    'url' in options.server
      ? connectHttp({ serverUrl: options.server.url, identity: () => identity.signing, verifyServer, verify, clock })
      : await connect({
          target: `dns:///${hostAndPort(options.server)}`,
          tls: { identity: () => identity.current, verifyServer },
        })
  return spireUpstreamAuthority({
    server: {
      async unary(method, request, call) {
        await identity.ready()
        return channel.unary(method, request, call)
      },
      async *serverStream(method, request, call) {
        await identity.ready()
        yield* channel.serverStream(method, request, call)
      },
      close() {
        stop.abort()
        channel.close()
      },
    },
    wait: pause,
    pollIntervalMs: POLL_INTERVAL_MS,
    log,
  })
}

function hostAndPort({ address, port }: { readonly address: string; readonly port: number }): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`
}

/** This server's own workload identity, as the agent beside it hands it out. */
class WorkloadIdentity {
  readonly #options: UpstreamSpireOptions
  #current: TlsIdentity | undefined
  #signing: HttpIdentity | undefined
  #roots: readonly Certificate[] = []
  #lastError: unknown
  #arrived = () => {}
  readonly #first = new Promise<void>((resolve) => {
    this.#arrived = resolve
  })

  constructor(options: UpstreamSpireOptions, signal: AbortSignal) {
    this.#options = options
    void this.#follow(signal)
  }

  get current(): TlsIdentity | undefined {
    return this.#current
  }

  /** The same identity for signing requests over HTTP. */
  get signing(): HttpIdentity | undefined {
    return this.#signing
  }

  get roots(): readonly Certificate[] {
    return this.#roots
  }

  /** Resolves once there is an SVID. @throws StatusError UNAVAILABLE if the agent gives none for a minute */
  async ready(): Promise<void> {
    if (this.#current) return
    const timeout = new AbortController()
    const timedOut = pause(IDENTITY_TIMEOUT_MS, timeout.signal).then(() => 'timeout')
    const outcome = await Promise.race([this.#first, timedOut])
    timeout.abort()
    if (outcome === 'timeout') {
      throw new StatusError(
        'UNAVAILABLE',
        `unable to get an X509-SVID from the Workload API at ${this.#options.workloadApiSocket}: ${errorMessage(this.#lastError)}`,
      )
    }
  }

  async #follow(signal: AbortSignal): Promise<void> {
    const { workloadApiSocket, log } = this.#options
    const channel = await connect({ target: `unix://${workloadApiSocket}` })
    const metadata = { 'workload.spiffe.io': 'true' }
    let complained = false
    while (!signal.aborted) {
      try {
        for await (const message of channel.serverStream(FETCH_X509_SVID, {}, { metadata, signal })) {
          this.#take(message)
          complained = false
        }
      } catch (error) {
        this.#lastError = error
        if (!signal.aborted && !complained) {
          log.warn('Waiting for an X509-SVID from the Workload API', {
            path: workloadApiSocket,
            error: errorMessage(error),
          })
          complained = true
        }
      }
      await pause(RETRY_MS, signal)
    }
    channel.close()
  }

  #take(message: X509SVIDResponse): void {
    const svid = message.svids[0]
    if (!svid) return
    this.#current = {
      certificates: parseCertificates(svid.x509Svid).map((certificate) => certificate.der),
      privateKey: svid.x509SvidKey,
    }
    this.#signing = { chain: this.#current.certificates, signer: importSigner(svid.x509SvidKey) }
    this.#roots = parseCertificates(svid.bundle).map(({ der }) => parseCertificate(der))
    this.#arrived()
  }
}
