import { errorMessage, StatusError } from '../core/error.ts'
import { isJsonObject } from '../core/json-object.ts'
import type { JwtSvidClaims } from '../core/jwt-svid.ts'
import type { CredentialComposer, X509Attributes } from '../core/plugin.ts'
import { requireDnsName } from './dns-name.ts'

/** What a certificate may have of each: a composer's answer is in every handshake from then on. */
const MAX_NAMES = 256
const MAX_EXTENSIONS = 16
const MAX_EXTENSION_BYTES = 8192
const MAX_TEXT = 1024

/** What an OID looks like that `der.oid` can write. */
const OID = /^[0-2]\.[1-3]?\d(?:\.(?:0|[1-9]\d{0,14}))+$/
/**
 * Extensions that say who somebody is and what the certificate is for. They are what makes it an SVID or a CA; a second one would be read by
 * some and not by others.
 */
const OURS: ReadonlySet<string> = new Set(
  ['14', '15', '17', '18', '19', '30', '33', '35', '36', '37', '54'].map((last) => `2.5.29.${last}`),
)

/**
 * Has each composer change what a certificate says besides whose it is, one after the other.
 * @throws StatusError as a composer says it, INTERNAL for what no certificate of ours may say
 */
export async function composeX509(
  composers: readonly CredentialComposer[],
  attributes: X509Attributes,
  ask: (composer: CredentialComposer, attributes: X509Attributes) => Promise<X509Attributes | undefined> | undefined,
): Promise<X509Attributes> {
  let composed = attributes
  for (const composer of composers) {
    const answer = await ask(composer, composed)
    if (answer === undefined) continue
    try {
      composed = checkedX509(answer)
    } catch (error) {
      throw refusal(composer, error)
    }
  }
  return composed
}

function checkedX509(attributes: X509Attributes): X509Attributes {
  const { subject, dnsNames, policies, extraExtensions } = attributes
  const texts = [...Object.values(subject), subject.extraNames?.map(({ value }) => value) ?? []].flat()
  if (texts.length > MAX_NAMES || texts.some((text) => typeof text === 'string' && text.length > MAX_TEXT)) {
    throw new Error('the subject is too long')
  }
  if (dnsNames.length > MAX_NAMES) throw new Error('too many DNS names')
  for (const name of dnsNames) requireDnsName(name)
  if (policies.length > MAX_NAMES || extraExtensions.length > MAX_EXTENSIONS) throw new Error('too many extensions')
  const oids = extraExtensions.map(({ oid }) => oid)
  for (const oid of [...oids, ...policies, ...(subject.extraNames ?? []).map((name) => name.oid)]) {
    if (!OID.test(oid)) throw new Error(`invalid OID: ${JSON.stringify(oid)}`)
  }
  if (new Set(oids).size < oids.length) throw new Error('an extension comes twice')
  for (const { oid, value } of extraExtensions) {
    if (OURS.has(oid)) throw new Error(`extension ${oid} is not a composer's to set`)
    if (value.length > MAX_EXTENSION_BYTES) throw new Error(`extension ${oid} is too long`)
  }
  return attributes
}

/**
 * The same for the claims of a JWT-SVID.
 * @throws StatusError as a composer says it, INTERNAL for claims that make no JWT-SVID of this workload within this time
 */
export async function composeJwt(
  composers: readonly CredentialComposer[],
  claims: JwtSvidClaims,
): Promise<Readonly<Record<string, unknown>> & { readonly exp: number }> {
  let composed: Readonly<Record<string, unknown>> & { readonly exp: number } = { ...claims }
  for (const composer of composers) {
    const answer = await composer.composeWorkloadJwtSvid?.(claims.sub, composed)
    if (answer === undefined) continue
    try {
      composed = checkedClaims(answer, claims)
    } catch (error) {
      throw refusal(composer, error)
    }
  }
  return composed
}

function checkedClaims(answer: Readonly<Record<string, unknown>>, { sub, iat, exp }: JwtSvidClaims) {
  if (!isJsonObject(answer)) throw new Error('no claims')
  if (answer.sub !== sub) throw new Error(`the subject is ${JSON.stringify(answer.sub)}, not ${sub}`)
  if (typeof answer.exp !== 'number' || !Number.isInteger(answer.exp) || answer.exp > exp || answer.exp <= iat) {
    throw new Error('exp is not within the time that was asked for')
  }
  if (answer.iat !== undefined && (typeof answer.iat !== 'number' || answer.iat > exp))
    throw new Error('iat is no time')
  const audience = typeof answer.aud === 'string' ? [answer.aud] : answer.aud
  if (!Array.isArray(audience) || audience.length === 0 || audience.some((one) => typeof one !== 'string' || !one)) {
    throw new Error('the audience is empty')
  }
  return { ...answer, aud: audience, exp: answer.exp }
}

function refusal({ name }: CredentialComposer, error: unknown): StatusError {
  return new StatusError(
    'INTERNAL',
    `credentialcomposer(${name}): plugin returned invalid attributes: ${errorMessage(error)}`,
    { cause: error },
  )
}
