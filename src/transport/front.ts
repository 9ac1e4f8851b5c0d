import { isOfThisMachine, parseIpAddress, parseIpNetwork } from '../core/ip-address.ts'
import { certificatesFromPem } from '../core/pem.ts'
import { equalSecret } from '../core/secret-text.ts'
import { readCertificates } from './http-signature.ts'
import { refused } from './message-signature.ts'

/** How a front says what certificate a client showed it; with `none` only its word on addresses is taken. */
export type FrontCarrier = 'rfc9440' | 'aws_alb_passthrough' | 'aws_alb_verify' | 'cloudflare' | 'none'

/** A proxy or load balancer that ends TLS for clients with certificates, and proves to be it: by a secret, its addresses, or both. */
export interface FrontOptions {
  /** For logs. */
  readonly name: string
  readonly carrier: FrontCarrier
  /** What it sends in `secretHeader` with each request. */
  readonly secret?: string | undefined
  /** Default `turret-front-secret`. */
  readonly secretHeader?: string | undefined
  /** Addresses and networks that it connects from. */
  readonly addresses?: readonly string[] | undefined
  /** Where it puts the client's address, last of those there if there are several; default nowhere. */
  readonly addressHeader?: string | undefined
}

/** What Cloudflare tells a Worker of the client's certificate, as `request.cf.tlsClientAuth`: nothing that a client can write. */
export type TlsClientAuth = Readonly<Record<string, unknown>>

/** A request as it came, and who stood between. */
export interface Arrival {
  /** Of the client as far as it is known, without port. */
  readonly address: string
  /** The front that proved itself. */
  readonly front: FrontOptions | undefined
}

export interface Fronts {
  /** @throws StatusError UNAUTHENTICATED for a secret that is no front's */
  arrivalOf(headers: Headers, address: string, tls?: TlsClientAuth): Arrival
  /**
   * The certificates that the front of an unsigned request says its client has proved; the caller has to verify them.
   * @returns DER, leaf first; undefined if there are none
   * @throws StatusError UNAUTHENTICATED for certificates that come from somebody else, or that the front did not find good
   */
  certificatesOf(arrival: Arrival, headers: Headers, tls?: TlsClientAuth): readonly Uint8Array[] | undefined
}

const SECRET_HEADER = 'turret-front-secret'
const MIN_SECRET = 32
/** What Cloudflare takes of a leaf. */
const MAX_LENGTH = 10 * 1024
const MAX_CHAIN = 8

const RFC_9440 = ['client-cert', 'client-cert-chain']
/** The load balancer fills in one of them, by its mode: the other is a client's own. */
const AWS_PASSTHROUGH = 'x-amzn-mtls-clientcert'
const AWS_VERIFY = 'x-amzn-mtls-clientcert-leaf'
/** All headers that carry certificates, so that copies of clients are seen. */
const CARRYING = [...RFC_9440, AWS_PASSTHROUGH, AWS_VERIFY]
const CARRIERS: Readonly<Record<FrontCarrier, readonly string[]>> = {
  rfc9440: RFC_9440,
  aws_alb_passthrough: [AWS_PASSTHROUGH],
  aws_alb_verify: [AWS_VERIFY],
  cloudflare: RFC_9440,
  none: [],
}

/** A front takes what is between client and server: without configured ones certificates come from nobody. */
export function frontsOf(options: readonly FrontOptions[]): Fronts {
  const fronts = options.map((front) => ({
    front,
    proves: proofOf(front),
    header: front.secretHeader ?? SECRET_HEADER,
  }))

  return {
    arrivalOf(headers, address, tls) {
      const found = fronts.find(({ proves }) => proves(headers, address, tls))
      if (!found) {
        if (fronts.some(({ front, header }) => front.secret !== undefined && headers.has(header)))
          throw refused('the secret belongs to no front of this server')
        return { address, front: undefined }
      }
      const { front } = found
      const told = front.addressHeader === undefined ? null : headers.get(front.addressHeader)
      return { address: told === null ? address : clientAddress(told), front }
    },
    certificatesOf({ front }, headers, tls) {
      const platform = front?.carrier === 'cloudflare' && isPlatform(front)
      const own = front === undefined || platform ? [] : CARRIERS[front.carrier]
      if (CARRYING.some((name) => headers.has(name) && !own.includes(name)))
        throw refused('the message is not signed, and no front vouches for its certificate')
      if (!front) return undefined
      if (platform) return fromPlatform(tls!)
      if (!own.some((name) => headers.has(name))) return undefined
      if (front.carrier.startsWith('aws_alb')) return fromPem(headers.get(own[0]!)!)
      if (front.carrier === 'cloudflare')
        requireGood(headers.get('cf-cert-verified') === 'true', headers.get('cf-cert-revoked') !== 'false')
      return readCertificates(headers.get('client-cert'), headers.get('client-cert-chain'), MAX_LENGTH)
    },
  }
}

/** True for a front that is the platform itself, which needs no proof. */
function isPlatform({ secret, addresses }: FrontOptions): boolean {
  return secret === undefined && addresses === undefined
}

type Proof = (headers: Headers, address: string, tls: TlsClientAuth | undefined) => boolean

/** @throws Error for options that do not say how the front proves itself */
function proofOf(front: FrontOptions): Proof {
  const { name, carrier, secret, secretHeader = SECRET_HEADER, addresses } = front
  if (isPlatform(front)) {
    if (carrier === 'cloudflare') return (_headers, _address, tls) => tls !== undefined
    throw new Error(`the front "${name}" has neither a secret nor addresses to be known by`)
  }
  if (secret !== undefined && secret.length < MIN_SECRET)
    throw new Error(`the secret of the front "${name}" has less than ${MIN_SECRET} characters`)
  const networks = addresses?.map((text) => {
    const network = parseIpNetwork(text)
    if (!network) throw new Error(`the front "${name}" has ${JSON.stringify(text)}, which is no address or network`)
    if (secret === undefined && carrier !== 'none' && isOfThisMachine(text))
      throw new Error(
        `the front "${name}" needs a secret: every process of this machine has the address ${JSON.stringify(text)}`,
      )
    return network
  })
  return (headers, address) => {
    if (networks) {
      const bytes = parseIpAddress(address)
      if (!bytes || !networks.some((includes) => includes(bytes))) return false
    }
    return secret === undefined || equalSecret(secret, headers.get(secretHeader) ?? '')
  }
}

/** Each proxy adds the address that it saw at the end: the last one is what this front saw. */
function clientAddress(text: string): string {
  const last = text.slice(text.lastIndexOf(',') + 1).trim()
  if (!parseIpAddress(last)) throw refused('the front names no address of the client')
  return last
}

/** The load balancer encodes PEM like a URL, but leaves `+`, `=` and `/` as they are. */
function fromPem(text: string): readonly Uint8Array[] {
  if (text.length > MAX_LENGTH) throw refused('the certificates are too long')
  let certificates: readonly Uint8Array[]
  try {
    certificates = certificatesFromPem(decodeURIComponent(text))
  } catch {
    certificates = []
  }
  if (certificates.length === 0 || certificates.length > MAX_CHAIN) throw refused('a certificate header is malformed')
  return certificates
}

/** Cloudflare fills in certificates whether they are good or not. */
function requireGood(verified: boolean, revoked: boolean): void {
  if (!verified) throw refused('the front did not find the certificate valid')
  if (revoked) throw refused('the certificate is revoked, says the front')
}

function fromPlatform(tls: TlsClientAuth): readonly Uint8Array[] | undefined {
  if (tls.certPresented !== '1') return undefined
  requireGood(tls.certVerified === 'SUCCESS', tls.certRevoked !== '0')
  const { certRFC9440: leaf, certChainRFC9440: chain } = tls
  if (tls.certRFC9440TooLarge === true || tls.certChainRFC9440TooLarge === true || typeof leaf !== 'string')
    throw refused('the certificates are too long')
  return readCertificates(leaf, typeof chain === 'string' && chain !== '' ? chain : null, MAX_LENGTH)
}
