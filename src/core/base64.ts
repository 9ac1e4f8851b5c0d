import { StatusError } from './error.ts'

// Uint8Array's own methods are the fast way where a runtime has them; the rest keeps older ones going.

/** Standard base64 with padding. RFC 4648 4. */
export function base64(bytes: Uint8Array): string {
  if (typeof bytes.toBase64 === 'function') return bytes.toBase64()
  let binary = ''
  for (let index = 0; index < bytes.length; index += 8192)
    binary += String.fromCharCode(...bytes.subarray(index, index + 8192))
  return btoa(binary)
}

/** Base64url without padding. RFC 4648 5. */
export function base64Url(bytes: Uint8Array): string {
  if (typeof bytes.toBase64 === 'function') return bytes.toBase64({ alphabet: 'base64url', omitPadding: true })
  return base64(bytes).replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '')
}

const STANDARD = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/
const URL_SAFE = /^(?:[A-Za-z0-9_-]{4})*(?:[A-Za-z0-9_-]{2,3})?$/

/** @throws StatusError INVALID_ARGUMENT unless it is standard base64 with padding and nothing else */
export function fromBase64(text: string): Uint8Array {
  if (!STANDARD.test(text)) throw new StatusError('INVALID_ARGUMENT', 'illegal base64 data')
  if (typeof Uint8Array.fromBase64 === 'function') return Uint8Array.fromBase64(text)
  return Uint8Array.from(atob(text), (char) => char.charCodeAt(0))
}

/** @throws StatusError INVALID_ARGUMENT unless it is base64url without padding */
export function fromBase64Url(text: string): Uint8Array {
  if (!URL_SAFE.test(text)) throw new StatusError('INVALID_ARGUMENT', 'illegal base64url data')
  if (typeof Uint8Array.fromBase64 === 'function') return Uint8Array.fromBase64(text, { alphabet: 'base64url' })
  const padded = text
    .replace(/-/g, '+')
    .replace(/_/g, '/')
    .padEnd(Math.ceil(text.length / 4) * 4, '=')
  return fromBase64(padded)
}
