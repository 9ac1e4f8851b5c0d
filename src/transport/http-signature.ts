import { ClockSkew } from '../../proto/turret/http/v1.ts'
import { base64, fromBase64 } from '../core/base64.ts'
import { type Certificate, parseCertificate } from '../core/certificate.ts'
import type { EpochSeconds } from '../core/clock.ts'
import { utf8 } from '../core/der.ts'
import { errorMessage, StatusError } from '../core/error.ts'
import type { Signer } from '../core/key-type.ts'
import { type PublicKeyInfo, parsePublicKey, type SignatureScheme, type VerifySignature } from '../core/public-key.ts'

// HTTP Message Signatures with X509-SVID keys, in the shape of the WIMSE HTTP-signature profile
// (draft-ietf-wimse-http-signature-08), the SVID in the fields of RFC 9440. All names of headers and parameters are here.

const CLOCK_SKEW = 'type.googleapis.com/turret.http.v1.ClockSkew'
const LABEL = 'wimse'
const REQUEST_TAG = 'spiffe-x509-svid'
const RESPONSE_TAG = 'spiffe-x509-svid-response'
const CERT = 'client-cert'
const CHAIN = 'client-cert-chain'
const SERVER_CERT = 'server-cert'
const SERVER_CHAIN = 'server-cert-chain'

/** A nonce that asks for a signed answer to an unsigned request, as an agent has none before it attested. */
export const NONCE_HEADER = 'wimse-req-nonce'

/** A signature that is to live longer is refused. Seconds. */
const MAX_LIFETIME = 300
const LIFETIME = 60
const SKEW = 30
/** For how long one request may be taken, from the first moment to the last. Seconds. */
export const LONGEST_ACCEPTANCE = MAX_LIFETIME + 2 * SKEW + 1
const MAX_CHAIN = 8
const MAX_HEADER = 48 * 1024

export interface HttpIdentity {
  /** DER, leaf first. */
  readonly chain: readonly Uint8Array[]
  readonly signer: Signer
}

export interface HttpMessage {
  readonly method: string
  /** Path and query, as on the request line. */
  readonly target: string
  readonly headers: Headers
  readonly body: Uint8Array
}

export interface SignedHeaders {
  readonly headers: Readonly<Record<string, string>>
  readonly nonce: string
}

/**
 * Signs a request: method, target, content type, body and our chain.
 * @param audience how the receiver is configured to be called; never taken from Host
 * @returns the headers to add
 */
export async function signRequest(
  message: HttpMessage,
  identity: HttpIdentity,
  { audience, now, nonce }: { readonly audience: string; readonly now: EpochSeconds; readonly nonce: string },
): Promise<SignedHeaders> {
  const headers: Record<string, string> = {
    'content-digest': await contentDigest(message.body),
    ...certificateHeaders(identity.chain, CERT, CHAIN),
  }
  const components = ['"@method"', '"@request-target"', '"content-type"', '"content-digest"', `"${CERT}"`]
  if (headers[CHAIN] !== undefined) components.push(`"${CHAIN}"`)
  const params = `(${components.join(' ')});created=${now};expires=${now + LIFETIME};nonce="${nonce}";tag="${REQUEST_TAG}";wimse-aud="${audience}"`
  const base = requestBase(
    components,
    params,
    message,
    (name) => headers[name] ?? message.headers.get(name) ?? undefined,
  )
  return { headers: { ...headers, ...(await signatureHeaders(params, base, identity.signer)) }, nonce }
}

/** The nonce that the answer to a request is bound to, signed or not; undefined: none, or none that we would write. */
export function nonceOf(headers: Headers): string | undefined {
  const signed = headers.get('signature-input')
  const nonce = signed === null ? headers.get(NONCE_HEADER) : /;nonce="([^"]*)"/.exec(signed)?.[1]
  return nonce && /^[A-Za-z0-9_-]{16,64}$/.test(nonce) ? nonce : undefined
}

export interface RequestCheck {
  /** Names under which this receiver may be addressed. */
  readonly audiences: readonly string[]
  readonly now: EpochSeconds
  readonly verify: VerifySignature
  /** Judges the chain, DER, leaf first. @throws StatusError */
  readonly verifyChain: (chain: readonly Uint8Array[]) => Promise<void>
}

export interface VerifiedRequest {
  /** DER, leaf first; verified. */
  readonly chain: readonly Uint8Array[]
  readonly leaf: Certificate
  readonly nonce: string
}

/** True if a request carries a signature at all: otherwise its sender is anonymous. */
export function isSigned(headers: Headers): boolean {
  return headers.has('signature-input') || headers.has('signature') || headers.has(CERT)
}

/**
 * Verifies a signed request: strict form, window, audience, digest, chain, signature, in this order.
 * @throws StatusError UNAUTHENTICATED; a wrong clock is told with the time here, in a ClockSkew detail
 */
export async function verifyRequest(message: HttpMessage, check: RequestCheck): Promise<VerifiedRequest> {
  const { components, params, values } = parseSignatureInput(message.headers.get('signature-input'), REQUEST_TAG)
  checkWindow(values, check.now)
  const audience = textParam(values, 'wimse-aud')
  if (!check.audiences.includes(audience)) throw refused('the audience of the signature is not this server')
  const hasChain = message.headers.has(CHAIN)
  requireComponents(components, [
    '@method',
    '@request-target',
    'content-type',
    'content-digest',
    CERT,
    ...(hasChain ? [CHAIN] : []),
  ])
  await checkDigest(message)
  const chain = readCertificates(message.headers, CERT, CHAIN)
  await check.verifyChain(chain)
  const leaf = parseCertificate(chain[0]!)
  const base = requestBase(quoted(components), params, message, (name) => message.headers.get(name) ?? undefined)
  await checkSignature(message.headers, base, leaf, check.verify)
  return { chain, leaf, nonce: textParam(values, 'nonce') }
}

/** Signs the answer to a request, bound to the request by its nonce, method and target. @returns the headers to add */
export async function signResponse(
  request: { readonly method: string; readonly target: string; readonly nonce: string },
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
  request: { readonly method: string; readonly target: string; readonly nonce: string },
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
    'content-type',
    'content-digest',
    SERVER_CERT,
    ...(hasChain ? [SERVER_CHAIN] : []),
  ])
  await checkDigest(response)
  const chain = readCertificates(response.headers, SERVER_CERT, SERVER_CHAIN)
  await check.verifyChain(chain)
  const base = responseBase(
    quoted(components),
    params,
    request,
    response.status,
    (name) => response.headers.get(name) ?? undefined,
  )
  await checkSignature(response.headers, base, parseCertificate(chain[0]!), check.verify)
  return created
}

function requestBase(
  components: readonly string[],
  params: string,
  message: Pick<HttpMessage, 'method' | 'target'>,
  header: (name: string) => string | undefined,
): Uint8Array {
  return signatureBase(components, params, (name) =>
    name === '"@method"' ? message.method : name === '"@request-target"' ? message.target : header(name.slice(1, -1)),
  )
}

function responseBase(
  components: readonly string[],
  params: string,
  request: { readonly method: string; readonly target: string },
  status: number,
  header: (name: string) => string | undefined,
): Uint8Array {
  return signatureBase(components, params, (name) => {
    if (name === '"@status"') return String(status)
    if (name === '"@method";req') return request.method
    if (name === '"@request-target";req') return request.target
    return header(name.slice(1, -1))
  })
}

/** RFC 9421 2.5. */
function signatureBase(
  components: readonly string[],
  params: string,
  value: (name: string) => string | undefined,
): Uint8Array {
  const lines = components.map((name) => {
    const found = value(name)
    if (found === undefined) throw refused(`the signature covers ${name}, which is not there`)
    return `${name}: ${found.trim()}`
  })
  return utf8([...lines, `"@signature-params": ${params}`].join('\n'))
}

async function signatureHeaders(params: string, base: Uint8Array, signer: Signer): Promise<Record<string, string>> {
  const signature = await signer.sign(base)
  return { 'signature-input': `${LABEL}=${params}`, signature: `${LABEL}=:${base64(signature)}:` }
}

interface SignatureInput {
  /** Names, with `;req` where they have it. */
  readonly components: readonly string[]
  /** Everything after `wimse=`, as it came. */
  readonly params: string
  readonly values: ReadonlyMap<string, string | number>
}

const INPUT =
  /^wimse=(\(("[a-z0-9@-]+"(?:;req)?(?: "[a-z0-9@-]+"(?:;req)?)*)\)((?:;[a-z-]+=(?:\d{1,15}|"[\x20-\x21\x23-\x5b\x5d-\x7e]*"))*))$/

/** Takes only the canonical form, so that what was signed is what was read. RFC 8941 3.1, 3.2. */
function parseSignatureInput(header: string | null, tag: string): SignatureInput {
  if (header === null) throw refused('the message is not signed')
  if (header.length > 4096) throw refused('the signature input is too long')
  const match = INPUT.exec(header)
  if (!match) throw refused('the signature input is malformed')
  const [, params, list, parameters] = match as unknown as [string, string, string, string]
  const components = list.split(' ').map((item) => item.replace(/"/g, ''))
  if (new Set(components).size !== components.length) throw refused('the signature input repeats a component')
  const values = new Map<string, string | number>()
  for (const [, name, number, text] of parameters.matchAll(/;([a-z-]+)=(?:(\d+)|"([^"]*)")/g)) {
    if (values.has(name!)) throw refused('the signature input repeats a parameter')
    values.set(name!, number === undefined ? text! : Number(number))
  }
  if (values.get('tag') !== tag) throw refused('the signature is of another profile')
  if (values.has('alg') || values.has('keyid')) throw refused('the signature must not name an algorithm or a key')
  return { components, params, values }
}

function timesOf(values: ReadonlyMap<string, string | number>): { created: EpochSeconds; expires: EpochSeconds } {
  const created = values.get('created')
  const expires = values.get('expires')
  if (typeof created !== 'number' || typeof expires !== 'number') throw refused('the signature has no times')
  if (expires <= created || expires - created > MAX_LIFETIME) throw refused('the signature lives too long')
  return { created, expires }
}

function checkWindow(values: ReadonlyMap<string, string | number>, now: EpochSeconds): void {
  const { created, expires } = timesOf(values)
  if (created <= now + SKEW && expires >= now - SKEW) return
  const message = `the signature is not valid at this time; the server's time is ${now}`
  throw new StatusError('UNAUTHENTICATED', message, {
    details: [{ typeUrl: CLOCK_SKEW, value: ClockSkew.encode({ serverTime: now }).finish() }],
  })
}

/** True for the refusal of a request because of its times. */
export function isClockSkew(error: StatusError): boolean {
  return error.code === 'UNAUTHENTICATED' && error.details.some(({ typeUrl }) => typeUrl === CLOCK_SKEW)
}

function textParam(values: ReadonlyMap<string, string | number>, name: string): string {
  const value = values.get(name)
  if (typeof value !== 'string' || value === '') throw refused(`the signature has no ${name}`)
  return value
}

function requireComponents(found: readonly string[], wanted: readonly string[]): void {
  for (const name of wanted) if (!found.includes(name)) throw refused(`the signature does not cover "${name}"`)
  for (const name of found)
    if (!wanted.includes(name)) throw refused(`the signature covers "${name}", which this profile does not know`)
}

function quoted(names: readonly string[]): string[] {
  return names.map((name) => (name.endsWith(';req') ? `"${name.slice(0, -4)}";req` : `"${name}"`))
}

/** RFC 9530. */
async function contentDigest(body: Uint8Array): Promise<string> {
  return `sha-256=:${base64(new Uint8Array(await crypto.subtle.digest('SHA-256', body as BufferSource)))}:`
}

async function checkDigest(message: { readonly headers: Headers; readonly body: Uint8Array }): Promise<void> {
  if (message.headers.get('content-digest') !== (await contentDigest(message.body))) {
    throw refused('the content digest does not match the body')
  }
}

function certificateHeaders(chain: readonly Uint8Array[], leafName: string, chainName: string): Record<string, string> {
  const [leaf, ...above] = chain.map((der) => `:${base64(der)}:`)
  if (leaf === undefined) throw new Error('an empty chain cannot sign')
  return { [leafName]: leaf, ...(above.length > 0 ? { [chainName]: above.join(', ') } : {}) }
}

function readCertificates(headers: Headers, leafName: string, chainName: string): Uint8Array[] {
  const leaf = headers.get(leafName) ?? ''
  const above = headers.get(chainName)
  if (leaf.length + (above?.length ?? 0) > MAX_HEADER) throw refused('the certificates are too long')
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

async function checkSignature(
  headers: Headers,
  base: Uint8Array,
  leaf: Certificate,
  verify: VerifySignature,
): Promise<void> {
  const match = /^wimse=:([A-Za-z0-9+/]+={0,2}):$/.exec(headers.get('signature') ?? '')
  if (!match) throw refused('the signature is malformed')
  const key = parsePublicKey(leaf.spki)
  const scheme = schemeOf(key)
  if (!scheme || !(await verify(key, scheme, base, fromBase64(match[1]!))))
    throw refused('the signature does not verify')
}

/** The one scheme that a key of the SVID signs with: nothing is negotiated. RFC 9421 3.3. */
function schemeOf(key: PublicKeyInfo): SignatureScheme | undefined {
  if (key.kind === 'rsa') return key.bits >= 2048 ? { kind: 'rsa-pkcs1', hash: 'SHA-256' } : undefined
  if (key.kind === 'ed25519') return { kind: 'ed25519', hash: 'SHA-512' }
  return key.curve === 'P-256'
    ? { kind: 'ecdsa', hash: 'SHA-256' }
    : key.curve === 'P-384'
      ? { kind: 'ecdsa', hash: 'SHA-384' }
      : undefined
}

function refused(message: string): StatusError {
  return new StatusError('UNAUTHENTICATED', message)
}
