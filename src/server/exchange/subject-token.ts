import { base64Url } from '../../core/base64.ts'
import type { EpochSeconds } from '../../core/clock.ts'
import { concat, utf8 } from '../../core/der.ts'
import { StatusError } from '../../core/error.ts'
import type { VerifiedToken } from '../../core/exchange.ts'
import { type ParsedJwt, parseJwt } from '../../core/jwt-svid.ts'
import { sha256 } from '../../core/sha256.ts'
import { type SpiffeId, trustDomainOf } from '../../core/spiffe-id.ts'
import type { VerifiableSource } from './source.ts'

const MAX_TOKEN_LENGTH = 16 * 1024

/** A platform's token, taken apart; nothing in it is verified yet. */
export interface SubjectToken {
  readonly text: string
  readonly parsed: ParsedJwt
  /** As they came: members may be anything. */
  readonly audiences: readonly unknown[]
}

/** @throws StatusError INVALID_ARGUMENT, UNAUTHENTICATED; nothing of the token is in their texts */
export function readSubjectToken(text: string): SubjectToken {
  if (text === '') throw new StatusError('INVALID_ARGUMENT', 'missing token')
  if (text.length > MAX_TOKEN_LENGTH) throw refused('the token is too long')
  let parsed: ParsedJwt
  try {
    parsed = parseJwt(text)
  } catch {
    // The reason may repeat what the header says.
    throw refused('the token is malformed, or its algorithm is none that is taken')
  }
  const { aud } = parsed.claims
  return { text, parsed, audiences: Array.isArray(aud) ? aud : [aud] }
}

/**
 * The source that a token is for: the one that is named, or the one whose issuer and audience are the token's.
 * @throws StatusError INVALID_ARGUMENT if several fit, UNAUTHENTICATED if none does
 */
export function sourceOf(sources: readonly VerifiableSource[], name: string, token: SubjectToken): VerifiableSource {
  if (name !== '') {
    const named = sources.find((source) => source.name === name)
    if (named) return named
    throw new StatusError('INVALID_ARGUMENT', `there is no source ${JSON.stringify(name.slice(0, 64))}`)
  }
  const fitting = sources.filter((source) => isIssuedFor(source, token) && candidateAudiences(source, token).length > 0)
  if (fitting.length === 1) return fitting[0]!
  if (fitting.length === 0) throw refused('the token is of an issuer, or for an audience, that is not known')
  throw new StatusError('INVALID_ARGUMENT', 'the token fits several sources; name one')
}

/** Compares what the token claims; the verifier of the source checks it. */
function isIssuedFor({ issuer, trustDomain }: VerifiableSource, { parsed }: SubjectToken): boolean {
  if (trustDomain === undefined) return parsed.claims.iss === issuer
  const { sub } = parsed.claims
  return typeof sub === 'string' && sub.startsWith('spiffe://') && trustDomainOf(sub as SpiffeId) === trustDomain
}

function candidateAudiences({ audience }: VerifiableSource, { audiences }: SubjectToken): readonly string[] {
  return audiences
    .filter((name) => typeof name === 'string')
    .filter((name) => name === audience || name.startsWith(`${audience}#`))
}

/** @throws StatusError UNAUTHENTICATED, UNAVAILABLE */
export function verifySubjectToken(source: VerifiableSource, token: SubjectToken): Promise<VerifiedToken> {
  const audiences = candidateAudiences(source, token)
  if (audiences.length === 0) throw refused('the token is for another audience')
  // Whoever else it is for has seen it, or will, and could come with it.
  if (audiences.length < token.audiences.length) throw refused('the token is for other audiences, too')
  return source.verifier.verify(token.text, {
    audiences,
    maxAgeSeconds: source.maxTokenAgeSeconds,
    types: source.types,
  })
}

/**
 * Requires that the caller holds the key that the token is bound to: `<audience>#<RFC 7638 thumbprint>`. A token that was stolen from a log is
 * of no use then.
 * @param thumbprint of the key whose possession the caller proved; undefined if they proved none
 * @throws StatusError UNAUTHENTICATED
 */
export function requireBinding(source: VerifiableSource, token: SubjectToken, thumbprint: string | undefined): void {
  const bound = candidateAudiences(source, token).filter((name) => name !== source.audience)
  if (bound.length === 0) {
    if (source.requireBoundKey) throw refused('the token is not bound to a key, which this source requires')
    return
  }
  if (thumbprint === undefined) throw refused('the token is bound to a key; a proof of that key is needed')
  // One audience without a key beside it does not set the token free.
  if (!bound.every((name) => name === `${source.audience}#${thumbprint}`)) {
    throw refused('the token is bound to another key')
  }
}

/** What identifies a token in logs. */
export async function tokenHash({ text }: SubjectToken): Promise<string> {
  return base64Url(await sha256(utf8(text)))
}

/**
 * The mark that keeps a token from being used again. Without `jti` it is made of what is signed: of an ECDSA signature there are always two,
 * and so of the whole token. The key that verified it is in it: clusters may call themselves the same.
 */
export async function useOf(
  source: VerifiableSource,
  { text, parsed }: SubjectToken,
  publicKey: Uint8Array,
  svidType: string,
): Promise<string> {
  const { jti } = parsed.claims
  const unique =
    typeof jti === 'string' && jti !== ''
      ? `jti\n${source.verifier.issuer}\n${jti}`
      : `token\n${text.slice(0, text.lastIndexOf('.'))}`
  const scope = source.use === 'svid_type' ? svidType : 'any'
  const hash = await sha256(concat([await sha256(publicKey), utf8(unique)]))
  return `exchange ${scope} ${base64Url(hash)}`
}

/** When a token is past all use, so that its mark may go. */
export function endOfUse(source: VerifiableSource, verified: VerifiedToken): EpochSeconds {
  const { iat } = verified.claims
  const issuedAt = typeof iat === 'number' ? iat : verified.expiresAt
  return Math.ceil(Math.min(verified.expiresAt, issuedAt + source.maxTokenAgeSeconds)) + PAST_LEEWAY_SECONDS
}

const PAST_LEEWAY_SECONDS = 120

function refused(message: string): StatusError {
  return new StatusError('UNAUTHENTICATED', message)
}
