import { type Clock, epochSeconds } from '../core/clock.ts'
import { StatusError } from '../core/error.ts'
import type { VerifySignature } from '../core/public-key.ts'
import type { Server } from '../server/server.ts'
import type { AuthenticateRequest, Sender } from '../transport/fetch.ts'
import { type Fronts, frontsOf } from '../transport/front.ts'
import { verifyRequest } from '../transport/http-signature.ts'
import { checkDigest, type MessageHead, tagOf } from '../transport/message-signature.ts'
import { isOperatorTag, verifyOperatorRequest } from '../transport/operator-signature.ts'
import { checkWitBody, isWitRequest, verifyWitRequest } from '../transport/wit-signature.ts'

/** Verifies the bearer token of an operator. @returns how logs name them @throws StatusError UNAUTHENTICATED, PERMISSION_DENIED */
export type VerifyOperatorToken = (token: string) => Promise<string>

export interface SendersOptions {
  readonly trust: Server['trust']
  /** Names under which requests may address this server. */
  readonly audiences: readonly string[]
  /** RFC 7638 thumbprints of the keys of operators; default none. */
  readonly operatorKeys?: readonly string[] | undefined
  /** Absent: bearer tokens are refused. */
  readonly verifyOperatorToken?: VerifyOperatorToken | undefined
  /** Whose word on the certificates of clients is taken; default nobody's. */
  readonly fronts?: Fronts | undefined
  readonly verify: VerifySignature
  readonly clock: Clock
}

/** Where a front (Cloudflare Access) puts the token that it checked. */
const ACCESS_HEADER = 'cf-access-jwt-assertion'

/**
 * Says who sent a request: the holder of an X509-SVID, a WIT-SVID or an operator's key by their signature, the holder of an X509-SVID by the
 * word of a front, an operator by an OIDC token, or nobody. A request that shows something that is not good is refused, never taken for
 * anonymous.
 */
export function sendersOf(options: SendersOptions): AuthenticateRequest {
  const { trust, audiences, operatorKeys = [], verifyOperatorToken, fronts = frontsOf([]), verify, clock } = options

  const hosts: ReadonlySet<string | undefined> = new Set(audiences.map((name) => URL.parse(name)?.hostname ?? name))

  async function bySvid(message: MessageHead, address: string): Promise<Sender> {
    const check = { audiences, now: epochSeconds(clock), verify, verifyChain: trust.verifyPeer }
    const { holder } = await verifyRequest(message, check)
    return { peer: { via: 'x509', address, ...holder }, signed: true, checkBody: digestOf(message) }
  }

  async function byWit(message: MessageHead, address: string): Promise<Sender> {
    const check = { audiences, now: epochSeconds(clock), verify, verifyWit: trust.verifyWit }
    const { spiffeId } = await verifyWitRequest(message, check)
    return {
      peer: { via: 'wit', address, spiffeId },
      signed: true,
      checkBody: (body) => checkWitBody({ headers: message.headers, body }),
    }
  }

  async function byOperatorKey(message: MessageHead, address: string): Promise<Sender> {
    const check = { audiences, now: epochSeconds(clock), verify, thumbprints: operatorKeys }
    const name = await verifyOperatorRequest(message, check)
    return {
      peer: { via: 'operator', address, name, proof: 'operator_key' },
      signed: true,
      checkBody: digestOf(message),
    }
  }

  async function byToken(token: string, message: MessageHead, address: string): Promise<Sender> {
    if (!verifyOperatorToken) throw new StatusError('UNAUTHENTICATED', 'this server takes no bearer tokens')
    requireHost(message)
    try {
      return {
        peer: { via: 'operator', address, name: await verifyOperatorToken(token), proof: 'oidc' },
        signed: false,
      }
    } catch (error) {
      // Somebody known who is no administrator may do what anybody may.
      if (error instanceof StatusError && error.code === 'PERMISSION_DENIED')
        return { peer: { via: 'anonymous', address }, signed: false, refusal: error }
      throw error
    }
  }

  /**
   * A signature names the server that it is for; what goes along with every request of a browser or a front does not. So a page that made a
   * browser take this server for its own host gets nowhere.
   */
  function requireHost({ host }: MessageHead): void {
    if (!hosts.has(host))
      throw new StatusError(
        'UNAUTHENTICATED',
        'the request was sent to a host that is none of the audiences of this server',
      )
  }

  return async (message, seenAddress, tls) => {
    const { headers } = message
    const authorization = headers.get('authorization')
    const arrival = fronts.arrivalOf(headers, seenAddress, tls)
    const { address, front } = arrival
    // A signature says more than a handshake that somebody else saw: what fronts add to signed requests is not looked at.
    if (headers.has('signature-input') || headers.has('signature') || isWitRequest(undefined, headers)) {
      if (authorization !== null)
        throw new StatusError('UNAUTHENTICATED', 'a request is signed or has a token, not both')
      // What a request shows beside the credential of its profile counts for nothing.
      const tag = tagOf(headers)
      if (isWitRequest(tag, headers)) return byWit(message, address)
      return isOperatorTag(tag) ? byOperatorKey(message, address) : bySvid(message, address)
    }
    const chain = fronts.certificatesOf(arrival, headers, tls)
    if (authorization !== null) {
      if (chain) throw new StatusError('UNAUTHENTICATED', 'a request has a certificate or a token, not both')
      const [, token] = /^Bearer ([A-Za-z0-9._~+/=-]+)$/i.exec(authorization) ?? []
      if (token === undefined) throw new StatusError('UNAUTHENTICATED', 'the authorization header is no bearer token')
      return byToken(token, message, address)
    }
    if (chain) {
      requireHost(message)
      const holder = await trust.verifyPeer(chain)
      return { peer: { via: 'x509', address, ...holder, front: front!.name }, signed: false }
    }
    // The front adds it to every request of somebody it knows; where nobody asked for that, it means nothing.
    const assertion = verifyOperatorToken ? headers.get(ACCESS_HEADER) : null
    return assertion === null
      ? { peer: { via: 'anonymous', address }, signed: false }
      : byToken(assertion, message, address)
  }
}

function digestOf({ headers }: MessageHead): NonNullable<Sender['checkBody']> {
  return (body) => checkDigest({ headers, body })
}
