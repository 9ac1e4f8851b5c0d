import {
  MintX509CARequest,
  MintX509CAResponse,
  PublishJWTKeyRequest,
  PublishJWTKeyResponse,
  SubscribeToLocalBundleRequest,
  SubscribeToLocalBundleResponse,
} from '../../../proto/spire/plugin/server/upstreamauthority/v1.ts'
import type { X509Certificate } from '../../../proto/spire/plugin/types.ts'
import type { JwtAuthority, X509Authority } from '../../core/bundle.ts'
import { parseCertificate } from '../../core/certificate.ts'
import { errorMessage, StatusError } from '../../core/error.ts'
import type { Log } from '../../core/log.ts'
import type { UpstreamAuthority, UpstreamBundle } from '../../core/plugin.ts'
import { parsePublicKey } from '../../core/public-key.ts'
import type { PluginCalls } from './calls.ts'

const SERVICE = '/spire.plugin.server.upstreamauthority.v1.UpstreamAuthority'
const MINT = { path: `${SERVICE}/MintX509CAAndSubscribe`, request: MintX509CARequest, response: MintX509CAResponse }
const PUBLISH = {
  path: `${SERVICE}/PublishJWTKeyAndSubscribe`,
  request: PublishJWTKeyRequest,
  response: PublishJWTKeyResponse,
}
const SUBSCRIBE = {
  path: `${SERVICE}/SubscribeToLocalBundle`,
  request: SubscribeToLocalBundleRequest,
  response: SubscribeToLocalBundleResponse,
}

/** Longer than any chain that verifies. */
const MAX_CHAIN = 16
/** Every agent and workload holds them. */
const MAX_AUTHORITIES = 256
const MAX_KEY_ID_LENGTH = 256

/** A plugin that signs our CA. It goes on telling of its roots on the stream of the last signature, and of keys on that of the last key. */
export function externalUpstreamAuthority(name: string, calls: PluginCalls, log: Log): UpstreamAuthority {
  const news = newsOf()
  let minting: AbortController | undefined
  let publishing: AbortController | undefined

  /** Takes the first message of a stream, and what comes later as news. */
  async function subscribed<Res>(
    stream: AsyncIterable<Res>,
    read: (later: Res) => Partial<UpstreamBundle>,
    what: string,
  ): Promise<Res> {
    const messages = stream[Symbol.asyncIterator]()
    const first = await messages.next()
    if (first.done) throw calls.error('INTERNAL', 'plugin closed stream unexpectedly')
    void (async () => {
      try {
        for (;;) {
          const { done, value } = await messages.next()
          if (done) return
          try {
            news.add(read(value))
          } catch (error) {
            log.warn(`Failed to parse ${what} from the upstream authority plugin`, { error: errorMessage(error) })
          }
        }
      } catch (error) {
        if (!(error instanceof StatusError) || error.code !== 'CANCELLED')
          log.warn(`The upstream authority plugin tells no more of ${what}`, { error: errorMessage(error) })
      }
    })()
    return first.value
  }

  async function mintX509Ca(csr: Uint8Array, preferredTtlSeconds: number) {
    const stop = new AbortController()
    const stream = calls.serverStream(MINT, { csr, preferredTtl: preferredTtlSeconds }, { signal: stop.signal })
    try {
      const first = await subscribed(
        stream,
        ({ x509CaChain, upstreamX509Roots }) => {
          if (x509CaChain.length > 0) {
            throw calls.error('INTERNAL', 'plugin response has an X.509 CA chain after the first response')
          }
          return { x509Authorities: rootsOf(upstreamX509Roots, calls) }
        },
        'an X.509 root update',
      )
      if (first.x509CaChain.length === 0) throw calls.error('INTERNAL', 'plugin response missing X.509 CA chain')
      if (first.x509CaChain.length > MAX_CHAIN) {
        throw calls.error('INTERNAL', `plugin response has an X.509 CA chain of more than ${MAX_CHAIN} certificates`)
      }
      const chain = certificatesOf(first.x509CaChain, 'X.509 CA chain', calls)
      const upstreamRoots = rootsOf(first.upstreamX509Roots, calls)
      minting?.abort()
      minting = stop
      return { caChain: chain.map(({ der }) => der), upstreamRoots }
    } catch (error) {
      stop.abort()
      throw error
    }
  }

  async function publishJwtKey(key: JwtAuthority): Promise<readonly JwtAuthority[] | undefined> {
    const stop = new AbortController()
    try {
      const first = await subscribed(
        calls.serverStream(PUBLISH, { jwtKey: key }, { signal: stop.signal }),
        ({ upstreamJwtKeys }) => ({ jwtAuthorities: keysOf(upstreamJwtKeys, calls) }),
        'a JWT key update',
      )
      const keys = keysOf(first.upstreamJwtKeys, calls)
      publishing?.abort()
      publishing = stop
      return keys
    } catch (error) {
      stop.abort()
      if (error instanceof StatusError && error.code === 'UNIMPLEMENTED') return undefined
      throw error
    }
  }

  async function* follow(signal: AbortSignal): AsyncGenerator<UpstreamBundle> {
    try {
      for await (const { upstreamX509Roots, upstreamJwtKeys } of calls.serverStream(SUBSCRIBE, {}, { signal })) {
        yield { x509Authorities: rootsOf(upstreamX509Roots, calls), jwtAuthorities: keysOf(upstreamJwtKeys, calls) }
      }
      return
    } catch (error) {
      if (!(error instanceof StatusError) || error.code !== 'UNIMPLEMENTED') throw error
    }
    yield* news.follow(signal)
  }

  return {
    name,
    mintX509Ca,
    publishJwtKey,
    follow,
    async close() {
      minting?.abort()
      publishing?.abort()
    },
  }
}

/** What streams told, each part as it was told last. */
function newsOf() {
  const nothing: UpstreamBundle = { x509Authorities: [], jwtAuthorities: [] }
  let latest = nothing
  let wake: () => void = () => {}
  return {
    add(part: Partial<UpstreamBundle>): void {
      latest = { ...latest, ...part }
      wake()
    },
    async *follow(signal: AbortSignal): AsyncGenerator<UpstreamBundle> {
      let told = nothing
      signal.addEventListener('abort', () => wake(), { once: true })
      while (!signal.aborted) {
        if (latest !== told) {
          told = latest
          yield told
          continue
        }
        await new Promise<void>((resolve) => {
          wake = resolve
        })
      }
    },
  }
}

function rootsOf(certificates: readonly X509Certificate[], calls: PluginCalls): X509Authority[] {
  if (certificates.length === 0) throw calls.error('INTERNAL', 'plugin response missing upstream X.509 roots')
  return certificatesOf(certificates, 'upstream X.509 roots', calls)
}

function certificatesOf(certificates: readonly X509Certificate[], what: string, calls: PluginCalls): X509Authority[] {
  if (certificates.length > MAX_AUTHORITIES) {
    throw calls.error('INTERNAL', `plugin response has more than ${MAX_AUTHORITIES} ${what}`)
  }
  return certificates.map(({ asn1, tainted }) => {
    try {
      parseCertificate(asn1)
    } catch (error) {
      throw calls.error('INTERNAL', `plugin response has malformed ${what}: ${errorMessage(error)}`)
    }
    return { der: asn1, tainted }
  })
}

function keysOf(keys: readonly JwtAuthority[], calls: PluginCalls): JwtAuthority[] {
  if (keys.length > MAX_AUTHORITIES) {
    throw calls.error('INTERNAL', `plugin response has more than ${MAX_AUTHORITIES} JWT keys`)
  }
  return keys.map(({ keyId, publicKey, expiresAt, tainted }) => {
    if (keyId === '') throw calls.error('INTERNAL', 'invalid plugin response: missing key ID for JWT key')
    try {
      if (keyId.length > MAX_KEY_ID_LENGTH) throw new Error('its key ID is too long')
      parsePublicKey(publicKey)
    } catch (error) {
      throw calls.error('INTERNAL', `invalid plugin response: JWT key: ${errorMessage(error)}`)
    }
    return { keyId, publicKey, expiresAt, tainted }
  })
}
