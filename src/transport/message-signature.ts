import { ClockSkew } from '../../proto/turret/http/v1.ts'
import { base64, fromBase64 } from '../core/base64.ts'
import type { EpochSeconds } from '../core/clock.ts'
import { utf8 } from '../core/der.ts'
import { StatusError } from '../core/error.ts'
import type { Signer } from '../core/key-type.ts'
import type { PublicKeyInfo, SignatureScheme, VerifySignature } from '../core/public-key.ts'

// HTTP Message Signatures (RFC 9421) as the WIMSE HTTP-signature profile (draft-ietf-wimse-http-signature-08) uses them: one signature with
// the label `wimse`, times and audience in its parameters. What signs is the business of the profiles beside this file.

const CLOCK_SKEW = 'type.googleapis.com/turret.http.v1.ClockSkew'
const LABEL = 'wimse'

/** A signature that is to live longer is refused. Seconds. */
const MAX_LIFETIME = 300
/** How long our own signatures live. Seconds. */
export const LIFETIME = 60
const SKEW = 30
/** Longer than one request may be taken, from the first moment to the last, by replicas whose clocks differ. Seconds. */
export const LONGEST_ACCEPTANCE = MAX_LIFETIME + 3 * SKEW

/** All of a message that comes before its body. */
export interface MessageHead {
  readonly method: string
  /** Path and query, as on the request line. */
  readonly target: string
  readonly headers: Headers
  /** Name of the host that a request was sent to, without port. */
  readonly host?: string
}

export interface HttpMessage extends MessageHead {
  readonly body: Uint8Array
}

/** What a request shows of its sender, and what signs it. */
export interface Credential {
  /** Names the profile. */
  readonly tag: string
  /** Carry the credential; the signature covers them, in this order. */
  readonly headers: Readonly<Record<string, string>>
  readonly signer: Signer
}

export interface SigningTerms {
  /** How the receiver is configured to be called; never taken from Host. */
  readonly audience: string
  readonly now: EpochSeconds
  readonly nonce: string
}

const COVERED = ['@method', '@request-target', 'content-type', 'content-digest'] as const

/** Signs a request: method, target, content type, body and the headers of the credential. @returns the headers to add */
export async function signWith(
  message: HttpMessage,
  credential: Credential,
  { audience, now, nonce }: SigningTerms,
): Promise<Readonly<Record<string, string>>> {
  const headers: Record<string, string> = {
    'content-digest': await contentDigest(message.body),
    ...credential.headers,
  }
  const components = quoted([...COVERED, ...Object.keys(credential.headers)])
  const params = `(${components.join(' ')});created=${now};expires=${now + LIFETIME};nonce="${nonce}";tag="${credential.tag}";wimse-aud="${audience}"`
  const base = requestBase(
    components,
    params,
    message,
    (name) => headers[name] ?? message.headers.get(name) ?? undefined,
  )
  return { ...headers, ...(await signatureHeaders(params, base, credential.signer)) }
}

/** What of a signed request was checked before anybody looked at its credential. */
export interface CheckedRequest {
  /** What the signature must be over. */
  readonly base: Uint8Array
  readonly nonce: string
}

/**
 * Checks a signed request as far as no key and no body is needed: strict form, window, audience, covered components, in this order. The
 * signature covers the digest of the body, which is for `checkDigest` once the body has come.
 * @param credentialHeaders those of the profile that this request has
 * @throws StatusError UNAUTHENTICATED; a wrong clock is told with the time here, in a ClockSkew detail
 */
export function checkRequest(
  message: MessageHead,
  profile: { readonly tag: string; readonly credentialHeaders: readonly string[] },
  { audiences, now }: { readonly audiences: readonly string[]; readonly now: EpochSeconds },
): CheckedRequest {
  const { components, params, values } = parseSignatureInput(message.headers.get('signature-input'), profile.tag)
  checkWindow(values, now)
  if (!audiences.includes(textParam(values, 'wimse-aud'))) {
    throw refused('the audience of the signature is not this server')
  }
  requireComponents(components, [...COVERED, ...profile.credentialHeaders])
  const base = requestBase(quoted(components), params, message, (name) => message.headers.get(name) ?? undefined)
  return { base, nonce: textParam(values, 'nonce') }
}

/** The tag of a signature, which says what profile it is of; nothing is checked. */
export function tagOf(headers: Headers): string | undefined {
  return /;tag="([^"]*)"/.exec(headers.get('signature-input') ?? '')?.[1]
}

export function requestBase(
  components: readonly string[],
  params: string,
  message: Pick<HttpMessage, 'method' | 'target'>,
  header: (name: string) => string | undefined,
): Uint8Array {
  return signatureBase(components, params, (name) =>
    name === '"@method"' ? message.method : name === '"@request-target"' ? message.target : header(name.slice(1, -1)),
  )
}

export function responseBase(
  components: readonly string[],
  params: string,
  request: Omit<HttpMessage, 'body'>,
  status: number,
  header: (name: string) => string | undefined,
): Uint8Array {
  return signatureBase(components, params, (name) => {
    if (name === '"@status"') return String(status)
    if (name === '"@method";req') return request.method
    if (name === '"@request-target";req') return request.target
    if (name.endsWith('";req')) return request.headers.get(name.slice(1, -5)) ?? undefined
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

/** The two headers of a signature over a base. */
export async function signatureHeaders(
  params: string,
  base: Uint8Array,
  signer: Signer,
): Promise<Record<string, string>> {
  const signature = await signer.sign(base)
  return { 'signature-input': `${LABEL}=${params}`, signature: `${LABEL}=:${base64(signature)}:` }
}

export interface SignatureInput {
  /** Names, with `;req` where they have it. */
  readonly components: readonly string[]
  /** Everything after `wimse=`, as it came. */
  readonly params: string
  readonly values: ReadonlyMap<string, string | number>
}

const INPUT =
  /^wimse=(\(("[a-z0-9@-]+"(?:;req)?(?: "[a-z0-9@-]+"(?:;req)?)*)\)((?:;[a-z-]+=(?:\d{1,15}|"[\x20-\x21\x23-\x5b\x5d-\x7e]*"))*))$/

/** Takes only the canonical form, so that what was signed is what was read. RFC 8941 3.1, 3.2. @throws StatusError UNAUTHENTICATED */
export function parseSignatureInput(header: string | null, tag: string): SignatureInput {
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

export function timesOf(values: ReadonlyMap<string, string | number>): {
  created: EpochSeconds
  expires: EpochSeconds
} {
  const created = values.get('created')
  const expires = values.get('expires')
  if (typeof created !== 'number' || typeof expires !== 'number') throw refused('the signature has no times')
  if (expires <= created || expires - created > MAX_LIFETIME) throw refused('the signature lives too long')
  return { created, expires }
}

/** @throws StatusError UNAUTHENTICATED with the time here, in a ClockSkew detail */
export function checkWindow(values: ReadonlyMap<string, string | number>, now: EpochSeconds): void {
  const { created, expires } = timesOf(values)
  if (created <= now + SKEW && expires >= now - SKEW) return
  const message = `the signature is not valid at this time; the server's time is ${now}`
  throw new StatusError('UNAUTHENTICATED', message, {
    details: [{ typeUrl: CLOCK_SKEW, value: ClockSkew.encode({ serverTime: now }).finish() }],
  })
}

/** True for the refusal of a request because of its times. */
export function isClockSkew(error: StatusError): boolean {
  return error.details.some(({ typeUrl }) => typeUrl === CLOCK_SKEW)
}

export function textParam(values: ReadonlyMap<string, string | number>, name: string): string {
  const value = values.get(name)
  if (typeof value !== 'string' || value === '') throw refused(`the signature has no ${name}`)
  return value
}

/** The signature must cover exactly these. */
export function requireComponents(found: readonly string[], wanted: readonly string[]): void {
  for (const name of wanted) if (!found.includes(name)) throw refused(`the signature does not cover "${name}"`)
  for (const name of found)
    if (!wanted.includes(name)) throw refused(`the signature covers "${name}", which this profile does not know`)
}

export function quoted(names: readonly string[]): string[] {
  return names.map((name) => (name.endsWith(';req') ? `"${name.slice(0, -4)}";req` : `"${name}"`))
}

/** RFC 9530. */
export async function contentDigest(body: Uint8Array, name: 'sha-256' | 'sha-512' = 'sha-256'): Promise<string> {
  const digest = await crypto.subtle.digest(name.toUpperCase(), body as BufferSource)
  return `${name}=:${base64(new Uint8Array(digest))}:`
}

/** @throws StatusError UNAUTHENTICATED unless the body is the one of the digest that came with it, SHA-256 */
export async function checkDigest(message: { readonly headers: Headers; readonly body: Uint8Array }): Promise<void> {
  if (message.headers.get('content-digest') !== (await contentDigest(message.body))) {
    throw refused('the content digest does not match the body')
  }
}

const SIGNATURE = /^wimse=:((?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?):$/
/** RSA with 8192 bits, base64. */
const MAX_SIGNATURE = 1400

/**
 * @param scheme what a credential says that its key signs with; default the one of its kind
 * @throws StatusError UNAUTHENTICATED unless the key made the signature
 */
export async function checkSignature(
  headers: Headers,
  base: Uint8Array,
  key: PublicKeyInfo,
  verify: VerifySignature,
  scheme: SignatureScheme | undefined = schemeOf(key),
): Promise<void> {
  const text = headers.get('signature') ?? ''
  const match = text.length <= MAX_SIGNATURE ? SIGNATURE.exec(text) : undefined
  if (!match) throw refused('the signature is malformed')
  if (!scheme || !(await verify(key, scheme, base, fromBase64(match[1]!))))
    throw refused('the signature does not verify')
}

/** The one scheme that a key signs with: nothing is negotiated. RFC 9421 3.3. */
function schemeOf(key: PublicKeyInfo): SignatureScheme | undefined {
  if (key.kind === 'rsa') return key.bits >= 2048 ? { kind: 'rsa-pkcs1', hash: 'SHA-256' } : undefined
  if (key.kind === 'ed25519') return { kind: 'ed25519', hash: 'SHA-512' }
  return key.curve === 'P-256'
    ? { kind: 'ecdsa', hash: 'SHA-256' }
    : key.curve === 'P-384'
      ? { kind: 'ecdsa', hash: 'SHA-384' }
      : undefined
}

export function refused(message: string): StatusError {
  return new StatusError('UNAUTHENTICATED', message)
}
