import { base64, fromBase64 } from './base64.ts'

export interface PemBlock {
  /** `CERTIFICATE`, `PRIVATE KEY`, ... */
  readonly label: string
  readonly bytes: Uint8Array
}

const MAX_TEXT = 8 * 1024 * 1024
/** A block starts and ends at the start of a line; blanks may follow on it. */
const BLOCK = /^-----BEGIN ([A-Z0-9 ]{1,64})-----[ \t]*\r?\n([A-Za-z0-9+/=\s]*?)^-----END \1-----/gm

/**
 * Finds the PEM blocks of a text. Text around and between them is skipped, as Go does; a block that is not base64 is skipped too.
 * @see RFC 7468
 */
export function decodePem(text: string): PemBlock[] {
  if (text.length > MAX_TEXT) return []
  const blocks: PemBlock[] = []
  for (const [, label, body] of text.matchAll(BLOCK)) {
    try {
      blocks.push({ label: label!, bytes: fromBase64(body!.replace(/\s+/g, '')) })
    } catch {}
  }
  return blocks
}

/** One block with lines of 64 characters and a newline at its end. */
export function encodePem(label: string, bytes: Uint8Array): string {
  const lines = base64(bytes).replace(/.{64}(?=.)/g, '$&\n')
  return `-----BEGIN ${label}-----\n${lines}\n-----END ${label}-----\n`
}

/** The certificates of a PEM text, DER. Blocks with other labels are left out. */
export function certificatesFromPem(text: string): Uint8Array[] {
  return decodePem(text)
    .filter((block) => block.label === 'CERTIFICATE')
    .map((block) => block.bytes)
}
