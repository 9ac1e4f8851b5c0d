import { fromBase64 } from '../core/base64.ts'
import { StatusError } from '../core/error.ts'
import { decodePem, encodePem } from '../core/pem.ts'
import { readBody } from '../transport/request-body.ts'

/** Certificates as PEM. */
export function pemOf(certificates: readonly Uint8Array[]): string {
  return certificates.map((der) => encodePem('CERTIFICATE', der)).join('')
}

/** A CSR as tools write it: PEM, or base64 of DER. @throws StatusError INVALID_ARGUMENT */
export function csrOf(text: string): Uint8Array {
  if (text === '') return new Uint8Array(0)
  try {
    if (!text.includes('-----BEGIN')) return fromBase64(text.replace(/\s+/g, ''))
    const blocks = decodePem(text)
    if (blocks.length === 1 && /^(NEW )?CERTIFICATE REQUEST$/.test(blocks[0]!.label)) return blocks[0]!.bytes
  } catch {
    // Said below.
  }
  throw new StatusError('INVALID_ARGUMENT', 'the CSR is neither PEM nor base64')
}

const BODY = { maxBytes: 64 * 1024, timeoutMs: 10_000 }

/** Reads a request of the exchange: a token, and a CSR or a proof. @throws StatusError; TooLarge for what is more */
export async function exchangeBody(request: Request): Promise<Uint8Array> {
  try {
    return await readBody(request, BODY)
  } catch (error) {
    if (error instanceof StatusError && error.code === 'RESOURCE_EXHAUSTED') throw new TooLarge(error.message)
    throw error
  }
}

/** Other than a client that asks too often, one that asks too much may not try again. */
export class TooLarge extends Error {}

/** What may be said of an error: a bug leaves without its text. */
export function publicError(error: unknown): Pick<StatusError, 'code' | 'message'> {
  return error instanceof StatusError ? error : { code: 'INTERNAL', message: 'internal error' }
}

export function spiffeIdText(id: { readonly trustDomain: string; readonly path: string }): string {
  return `spiffe://${id.trustDomain}${id.path}`
}
