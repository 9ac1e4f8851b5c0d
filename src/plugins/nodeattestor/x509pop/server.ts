import { base64, fromBase64 } from '../../../core/base64.ts'
import { type Certificate, KEY_USAGE, parseCertificate, parseName } from '../../../core/certificate.ts'
import { type Clock, epochSeconds } from '../../../core/clock.ts'
import { concat, equalBytes, hex } from '../../../core/der.ts'
import { errorMessage, type StatusCode, StatusError } from '../../../core/error.ts'
import { parseIpAddress } from '../../../core/ip-address.ts'
import { leafSpiffeId, verifyPaths } from '../../../core/path-validation.ts'
import type { NodeAttestationContext, NodeAttestationStep, NodeAttestor } from '../../../core/plugin.ts'
import { parsePublicKey, type VerifySignature } from '../../../core/public-key.ts'
import { sha1 } from '../../../core/sha1.ts'
import { pathOf, type SpiffeId, spiffeId, trustDomainOf } from '../../../core/spiffe-id.ts'
import type { TrustDomain } from '../../../core/trust-domain.ts'
import { type AgentPath, parseAgentPathTemplate } from '../agent-path-template.ts'

const X509POP = 'x509pop'

/** What the configuration says. */
export interface X509PopSettings {
  /** `spiffe`: the chain must verify against the server's own bundle. */
  readonly mode: 'external_pki' | 'spiffe'
  /** Default `/{{ .PluginName }}/{{ .Fingerprint }}`, in spiffe mode `/{{ .PluginName }}/{{ .SVIDPathTrimmed }}`. */
  readonly agentPathTemplate?: string
  /** Default `/spire-exchange/`. */
  readonly spiffePrefix?: string
  /** Default 4. */
  readonly maxIntermediates?: number
  /** Bits, default 8192. */
  readonly maxRsaKeySize?: number
  /** Default false. */
  readonly verifyClientIp?: boolean
}

export interface X509PopOptions extends X509PopSettings {
  readonly trustDomain: TrustDomain
  /** The trusted roots at this moment. */
  readonly roots: () => Promise<readonly Certificate[]>
  readonly clock: Clock
  readonly verify: VerifySignature
}

const FIELDS = [
  'PluginName',
  'Fingerprint',
  'SerialNumberHex',
  'TrustDomain',
  'SVIDPathTrimmed',
  'Subject.CommonName',
] as const
const NONCE_BYTES = 32
const COMMON_NAME = '2.5.4.3'
const IP_NAME = 7

/** What has to be known when the response comes. */
interface State {
  readonly leaf: string
  readonly authorities: readonly string[]
  readonly nonce: string
}

/** What tells that options are wrong. @throws Error with SPIRE's text */
export function requireX509PopSettings({
  mode,
  agentPathTemplate,
  maxIntermediates = 4,
  maxRsaKeySize = 8192,
}: X509PopSettings): AgentPath {
  if (maxIntermediates <= 0) throw new Error('max_intermediates must be greater than 0')
  if (maxRsaKeySize <= 0) throw new Error('max_rsa_key_size must be greater than 0')
  const standard =
    mode === 'spiffe' ? '/{{ .PluginName }}/{{ .SVIDPathTrimmed }}' : '/{{ .PluginName }}/{{ .Fingerprint }}'
  return parseAgentPathTemplate(agentPathTemplate || standard, FIELDS)
}

/**
 * Attests nodes that hold the key of an X.509 certificate. Numbers and sizes are checked before anything costly is done
 * with a chain: a client without credentials sends it.
 * @throws Error if an option is wrong
 */
export function x509PopNodeAttestor(options: X509PopOptions): NodeAttestor {
  const { mode, maxIntermediates = 4, maxRsaKeySize = 8192 } = options
  const agentPath = requireX509PopSettings(options)
  const prefix = options.spiffePrefix ?? '/spire-exchange/'
  const spiffePrefix = prefix.endsWith('/') ? prefix : `${prefix}/`

  async function start(payload: Uint8Array, context: NodeAttestationContext): Promise<NodeAttestationStep> {
    const encoded = certificatesOf(payload)
    if (encoded.length === 0) throw refused('INVALID_ARGUMENT', 'no certificate to attest')
    if (encoded.length - 1 > maxIntermediates) throw refused('INVALID_ARGUMENT', 'too many intermediate certificates')
    const leaf = parsed(encoded[0]!, 'leaf certificate', maxRsaKeySize)
    const intermediates = encoded
      .slice(1)
      .map((der, index) => parsed(der, `intermediate certificate ${index}`, maxRsaKeySize))
    const roots = await rootsOf(options)
    let paths: readonly (readonly Certificate[])[]
    try {
      paths = await verifyPaths({
        leaf,
        intermediates,
        roots,
        at: epochSeconds(options.clock),
        verify: options.verify,
      })
    } catch (error) {
      throw refused('PERMISSION_DENIED', `certificate verification failed: ${errorMessage(error)}`, error)
    }
    if (options.verifyClientIp) requireAddress(leaf, context.peerAddress)
    const nonce = base64(crypto.getRandomValues(new Uint8Array(NONCE_BYTES)))
    // Of all paths, each once: which of them a server takes is no matter of the node.
    const authorities = [...new Set(paths.flatMap((path) => path.slice(1).map(fingerprint)))]
    const state: State = { leaf: base64(leaf.der), authorities, nonce }
    return { challenge: json(challengeFor(leaf, nonce)), state: json(state) }
  }

  async function resume(state: Uint8Array, response: Uint8Array): Promise<NodeAttestationStep> {
    const { leaf: encodedLeaf, authorities, nonce } = JSON.parse(new TextDecoder().decode(state)) as State
    const leaf = parseCertificate(fromBase64(encodedLeaf))
    await verifyResponse(leaf, fromBase64(nonce), response, options.verify)
    const sans = sanSelectors(leaf, options.trustDomain)
    const id = agentId(
      options.trustDomain,
      agentPath,
      leaf,
      mode === 'spiffe' ? svidPath(leaf, spiffePrefix, options.trustDomain) : '',
    )
    const commonName = commonNameOf(leaf)
    return {
      attributes: {
        spiffeId: id,
        selectorValues: [
          ...(commonName ? [`subject:cn:${commonName}`] : []),
          ...new Set(authorities.map((text) => `ca:fingerprint:${text}`)),
          `serialnumber:${serialHex(leaf)}`,
          ...[...sans].map(([key, value]) => `san:${key}:${value}`),
        ],
        canReattest: true,
      },
    }
  }

  return { name: X509POP, start, resume }
}

function certificatesOf(payload: Uint8Array): readonly string[] {
  let data: unknown
  try {
    data = JSON.parse(new TextDecoder().decode(payload))
  } catch (error) {
    throw refused('INVALID_ARGUMENT', `failed to unmarshal data: ${errorMessage(error)}`, error)
  }
  const certificates = (data as { certificates?: unknown } | null)?.certificates ?? []
  if (!Array.isArray(certificates) || !certificates.every((item) => typeof item === 'string')) {
    throw refused('INVALID_ARGUMENT', 'failed to unmarshal data: certificates is not a list of strings')
  }
  return certificates
}

function parsed(encoded: string, what: string, maxRsaKeySize: number): Certificate {
  let certificate: Certificate
  try {
    certificate = parseCertificate(fromBase64(encoded))
  } catch (error) {
    throw refused('INVALID_ARGUMENT', `unable to parse ${what}: ${errorMessage(error)}`, error)
  }
  const key = parsePublicKey(certificate.spki)
  if (key.kind === 'rsa' && key.bits > maxRsaKeySize) throw refused('INVALID_ARGUMENT', `${what} key size too large`)
  return certificate
}

async function rootsOf(options: X509PopOptions): Promise<readonly Certificate[]> {
  try {
    return await options.roots()
  } catch (error) {
    throw refused('INTERNAL', `failed to get trust bundle: ${errorMessage(error)}`, error)
  }
}

function challengeFor(leaf: Certificate, nonce: string) {
  if (((leaf.keyUsage ?? 0) & KEY_USAGE.digitalSignature) === 0) {
    throw refused('INTERNAL', 'unable to generate challenge: certificate not intended for digital signature use')
  }
  const { kind } = parsePublicKey(leaf.spki)
  if (kind === 'ed25519') {
    throw refused('INTERNAL', 'unable to generate challenge: unsupported public key type ed25519.PublicKey')
  }
  return {
    rsa_signature: kind === 'rsa' ? { nonce } : null,
    ecdsa_signature: kind === 'ec' ? { nonce } : null,
  }
}

interface Response {
  readonly rsa_signature?: Readonly<Record<'nonce' | 'signature', unknown>> | null
  readonly ecdsa_signature?: Readonly<Record<'nonce' | 'r' | 's', unknown>> | null
}

async function verifyResponse(
  leaf: Certificate,
  nonce: Uint8Array,
  bytes: Uint8Array,
  verify: VerifySignature,
): Promise<void> {
  let answer: Response | null
  try {
    answer = JSON.parse(new TextDecoder().decode(bytes))
  } catch (error) {
    throw refused('INVALID_ARGUMENT', `unable to unmarshal challenge response: ${errorMessage(error)}`, error)
  }
  const key = parsePublicKey(leaf.spki)
  if (key.kind === 'rsa') {
    const rsa = answer?.rsa_signature
    if (!rsa) throw unproven('expecting RSA response')
    const signature = field(rsa.signature)
    const data = bothNonces(nonce, rsa.nonce)
    // Go fills the key with salt unless told otherwise, and SPIRE's agents do not tell it.
    const scheme = { kind: 'rsa-pss', hash: 'SHA-256', longSalt: true } as const
    if (!(await verify(key, scheme, data, signature))) throw unproven('RSA signature verify failed')
    return
  }
  const ecdsa = answer?.ecdsa_signature
  if (!ecdsa) throw unproven('expecting ECDSA response')
  const size = key.kind === 'ec' ? key.coordinateBytes : 0
  const signature = new Uint8Array(2 * size)
  const numbers = [field(ecdsa.r), field(ecdsa.s)]
  const data = bothNonces(nonce, ecdsa.nonce)
  if (numbers.some((number) => number.length > size)) throw unproven('ECDSA signature verify failed')
  for (const [index, number] of numbers.entries()) signature.set(number, (index + 1) * size - number.length)
  if (!(await verify(key, { kind: 'ecdsa', hash: 'SHA-256' }, data, signature))) {
    throw unproven('ECDSA signature verify failed')
  }
}

function bothNonces(challenge: Uint8Array, response: unknown): Uint8Array {
  const own = field(response)
  if (own.length !== NONCE_BYTES) throw unproven('invalid response nonce')
  return concat([challenge, own])
}

/** A byte field of the response; one that is not there is empty, as in Go. */
function field(text: unknown): Uint8Array {
  if (text === undefined || text === null) return new Uint8Array(0)
  try {
    if (typeof text === 'string') return fromBase64(text)
  } catch (error) {
    throw refused('INVALID_ARGUMENT', `unable to unmarshal challenge response: ${errorMessage(error)}`, error)
  }
  throw refused('INVALID_ARGUMENT', 'unable to unmarshal challenge response: a byte field is no string')
}

function requireAddress(leaf: Certificate, peerAddress: string): void {
  const address = parseIpAddress(peerAddress)
  if (!address) throw refused('INTERNAL', 'client IP not available for verification')
  const allowed = leaf.subjectAltNames.filter(({ type }) => type === IP_NAME)
  if (!allowed.some(({ value }) => equalBytes(value, address))) {
    throw refused('PERMISSION_DENIED', `client IP ${peerAddress} does not match any certificate IP SAN`)
  }
}

/** The path of the X509-SVID that a node shows: one of this trust domain, whoever else has certificates under the same roots. */
function svidPath(leaf: Certificate, prefix: string, trustDomain: TrustDomain): string {
  let id: SpiffeId
  try {
    id = leafSpiffeId(leaf)
  } catch (error) {
    throw refused('PERMISSION_DENIED', 'valid SVID x509 cert not found', error)
  }
  if (trustDomainOf(id) !== trustDomain)
    throw refused('PERMISSION_DENIED', 'x509 cert is an SVID of another trust domain')
  const path = pathOf(id)
  if (!path.startsWith(prefix)) throw refused('PERMISSION_DENIED', 'x509 cert doesnt match SVID prefix')
  return path.slice(prefix.length)
}

/** `x509pop://<td>/<key>/<value>` in the URI SANs. */
function sanSelectors(leaf: Certificate, trustDomain: TrustDomain): ReadonlyMap<string, string> {
  const start = `${X509POP}://${trustDomain}/`
  const found = new Map<string, string>()
  for (const uri of leaf.uris) {
    if (!uri.startsWith(start)) continue
    const [, key, value] = /^([^/]+)\/(.+)$/.exec(uri.slice(start.length)) ?? []
    if (key !== undefined && value !== undefined) found.set(key, value)
  }
  return found
}

function agentId(trustDomain: TrustDomain, agentPath: AgentPath, leaf: Certificate, svidPathTrimmed: string) {
  const values = new Map<string, string>([
    ['PluginName', X509POP],
    ['Fingerprint', fingerprint(leaf)],
    ['SerialNumberHex', serialHex(leaf)],
    ['TrustDomain', trustDomain],
    ['SVIDPathTrimmed', svidPathTrimmed],
    ['Subject.CommonName', commonNameOf(leaf)],
  ])
  try {
    return spiffeId(trustDomain, `/spire/agent${agentPath(values)}`)
  } catch (error) {
    throw refused('INTERNAL', `failed to make spiffe id: ${errorMessage(error)}`, error)
  }
}

function commonNameOf(leaf: Certificate): string {
  return parseName(leaf.subject).findLast((attribute) => attribute.oid === COMMON_NAME)?.value ?? ''
}

/** SHA-1 names a certificate here, as everywhere in SPIRE; it protects nothing. */
function fingerprint(certificate: Certificate): string {
  return hex(sha1(certificate.der))
}

function serialHex(certificate: Certificate): string {
  // DER needs a zero in front of what would be negative.
  return hex(certificate.serial).replace(/^00(?=..)/, '')
}

function json(value: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value))
}

function unproven(reason: string): StatusError {
  return refused('PERMISSION_DENIED', `challenge response verification failed: ${reason}`)
}

function refused(code: StatusCode, message: string, cause?: unknown): StatusError {
  return new StatusError(code, message, { cause })
}
