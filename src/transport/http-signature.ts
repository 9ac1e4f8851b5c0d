import { base64, fromBase64 } from '../core/base64.ts'
import { type Certificate, parseCertificate } from '../core/certificate.ts'
import type { EpochSeconds } from '../core/clock.ts'
import { errorMessage } from '../core/error.ts'
import type { Signer } from '../core/key-type.ts'
import { parsePublicKey, type VerifySignature } from '../core/public-key.ts'
import {
  type Credential,
  checkDigest,
  checkRequest,
  checkSignature,
  contentDigest,
  type HttpMessage,
  LIFETIME,
  type MessageHead,
  parseSignatureInput,
  quoted,
  refused,
  requireComponents,
  responseBase,
  signatureHeaders,
  textParam,
  timesOf,
} from './message-signature.ts'

// The profile of X509-SVID keys: the SVID in the fields of RFC 9440, answers signed by the server's own SVID.

const REQUEST_TAG = 'spiffe-x509-svid'
const RESPONSE_TAG = 'spiffe-x509-svid-response'
const CERT = 'client-cert'
const CHAIN = 'client-cert-chain'
const SERVER_CERT = 'server-cert'
const SERVER_CHAIN = 'server-cert-chain'

/** A nonce that asks for a signed answer to an unsigned request, as an agent has none before it attested. */
export const NONCE_HEADER = 'wimse-req-nonce'

const MAX_CHAIN = 8
const MAX_HEADER = 48 * 1024

export interface HttpIdentity {
  /** DER, leaf first. */
  readonly chain: readonly Uint8Array[]
  readonly signer: Signer
}

/** The credential of an X509-SVID: its chain in headers, its key. */
export function x509Credential({ chain, signer }: HttpIdentity): Credential {
  return { tag: REQUEST_TAG, headers: certificateHeaders(chain, CERT, CHAIN), signer }
}

/** The nonce that the answer to a request is bound to, signed or not; undefined: none, or none that we would write. */
export function nonceOf(headers: Headers): string | undefined {
  const signed = headers.get('signature-input')
  const nonce = signed === null ? headers.get(NONCE_HEADER) : /;nonce="([^"]*)"/.exec(signed)?.[1]
  return nonce && /^[A-Za-z0-9_.~+/=-]{8,128}$/.test(nonce) ? nonce : undefined
}

export interface RequestCheck<Holder> {
  /** Names under which this receiver may be addressed. */
  readonly audiences: readonly string[]
  readonly now: EpochSeconds
  readonly verify: VerifySignature
  /** Judges the chain, DER, leaf first, and says whose it is. @throws StatusError */
  readonly verifyChain: (chain: readonly Uint8Array[]) => Promise<Holder>
}

export interface VerifiedRequest<Holder> {
  readonly holder: Holder
  readonly leaf: Certificate
  readonly nonce: string
}

/**
 * Verifies the head of a signed request: strict form, window, audience, chain, signature, in this order. Its body is not looked at; that
 * it is the one that was signed is for `checkDigest`.
 * @throws StatusError UNAUTHENTICATED; a wrong clock is told with the time here, in a ClockSkew detail
 */
export async function verifyRequest<Holder>(
  message: MessageHead,
  check: RequestCheck<Holder>,
): Promise<VerifiedRequest<Holder>> {
  const credentialHeaders = message.headers.has(CHAIN) ? [CERT, CHAIN] : [CERT]
  const { base, nonce } = checkRequest(message, { tag: REQUEST_TAG, credentialHeaders }, check)
  const chain = readCertificates(message.headers.get(CERT), message.headers.get(CHAIN))
  const holder = await check.verifyChain(chain)
  const leaf = parseCertificate(chain[0]!)
  await checkSignature(message.headers, base, parsePublicKey(leaf.spki), check.verify)
  return { holder, leaf, nonce }
}

/** A request as its answer is bound to it. */
export interface AnsweredRequest extends Omit<HttpMessage, 'body'> {
  readonly nonce: string
}

/**
 * Headers of a request that its answer covers, so that it is no answer to a request of somebody else with the same nonce: the signature
 * where there is one, else the digest of the body where that is stated. RFC 9421 2.4.
 */
function boundHeaders(headers: Headers): string[] {
  return ['signature;req', 'content-digest;req'].filter((name) => headers.has(name.slice(0, -4))).slice(0, 1)
}

/** Signs the answer to a request, bound to the request by its nonce, method and target. @returns the headers to add */
export async function signResponse(
  request: AnsweredRequest,
  response: { readonly status: number; readonly contentType: string; readonly body: Uint8Array },
  identity: HttpIdentity,
  now: EpochSeconds,
): Promise<Readonly<Record<string, string>>> {
  const headers: Record<string, string> = {
    'content-digest': await contentDigest(response.body),
    ...certificateHeaders(identity.chain, SERVER_CERT, SERVER_CHAIN),
  }
  const names = [...(headers[SERVER_CHAIN] === undefined ? [] : [SERVER_CHAIN])]
  const components = [
    '"@status"',
    '"@method";req',
    '"@request-target";req',
    ...quoted(boundHeaders(request.headers)),
    '"content-type"',
    '"content-digest"',
    `"${SERVER_CERT}"`,
    ...quoted(names),
  ]
  const params = `(${components.join(' ')});created=${now};expires=${now + LIFETIME};tag="${RESPONSE_TAG}";wimse-req-nonce="${request.nonce}"`
  const base = responseBase(components, params, request, response.status, (name) =>
    name === 'content-type' ? response.contentType : headers[name],
  )
  return { ...headers, ...(await signatureHeaders(params, base, identity.signer)) }
}

export interface ResponseCheck {
  readonly verify: VerifySignature
  readonly verifyChain: (chain: readonly Uint8Array[]) => Promise<void>
}

/**
 * Verifies that an answer comes from the server and belongs to our request. Its nonce is as fresh as the request, so its times are not
 * held against our clock, which may be wrong.
 * @returns the server's time
 * @throws StatusError UNAUTHENTICATED
 */
export async function verifyResponse(
  request: AnsweredRequest,
  response: { readonly status: number; readonly headers: Headers; readonly body: Uint8Array },
  check: ResponseCheck,
): Promise<EpochSeconds> {
  const { components, params, values } = parseSignatureInput(response.headers.get('signature-input'), RESPONSE_TAG)
  const { created } = timesOf(values)
  if (textParam(values, 'wimse-req-nonce') !== request.nonce) throw refused('the response answers another request')
  const hasChain = response.headers.has(SERVER_CHAIN)
  requireComponents(components, [
    '@status',
    '@method;req',
    '@request-target;req',
    ...boundHeaders(request.headers),
    'content-type',
    'content-digest',
    SERVER_CERT,
    ...(hasChain ? [SERVER_CHAIN] : []),
  ])
  await checkDigest(response)
  const chain = readCertificates(response.headers.get(SERVER_CERT), response.headers.get(SERVER_CHAIN))
  await check.verifyChain(chain)
  const base = responseBase(
    quoted(components),
    params,
    request,
    response.status,
    (name) => response.headers.get(name) ?? undefined,
  )
  await checkSignature(response.headers, base, parsePublicKey(parseCertificate(chain[0]!).spki), check.verify)
  return created
}

function certificateHeaders(chain: readonly Uint8Array[], leafName: string, chainName: string): Record<string, string> {
  const [leaf, ...above] = chain.map((der) => `:${base64(der)}:`)
  if (leaf === undefined) throw new Error('an empty chain cannot sign')
  return { [leafName]: leaf, ...(above.length > 0 ? { [chainName]: above.join(', ') } : {}) }
}

/**
 * Reads a leaf and what is above it. RFC 9440 2.2, 2.3
 * @param maxLength of both texts together
 * @throws StatusError UNAUTHENTICATED
 */
export function readCertificates(leafText: string | null, above: string | null, maxLength = MAX_HEADER): Uint8Array[] {
  const leaf = leafText ?? ''
  if (leaf.length + (above?.length ?? 0) > maxLength) throw refused('the certificates are too long')
  const items = [leaf, ...(above === null ? [] : above.split(/, ?/))]
  if (items.length > MAX_CHAIN) throw refused('the certificate chain is too long')
  return items.map((item) => {
    if (!/^:[A-Za-z0-9+/]+=*:$/.test(item)) throw refused('a certificate header is malformed')
    try {
      return fromBase64(item.slice(1, -1))
    } catch (error) {
      throw refused(`a certificate header is malformed: ${errorMessage(error)}`)
    }
  })
}
