import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { AuthorityRewriter, fragmentOf, isPlainAuthority, rewritingStream } from './authority-rewriter.ts'
import { type HeaderField, HpackDecoder } from './hpack.ts'
import { FLAGS, FRAME_HEADER_BYTES, FRAMES, PREFACE, readFrameHeader } from './http2-frame.ts'

export interface AdmitOptions {
  readonly maxHeaderListBytes: number
  /** Announced to clients that wait for the settings of the server before they send a request. */
  readonly maxConcurrentStreams: number
  /** Who sends no request for so long is not waited for; default 5 s. */
  readonly patienceMs?: number
  /** Whether bytes can be put back into a socket; default: not on Bun. */
  readonly canPutBack?: boolean
}

/** More is not read before the first request. */
const MAX_BYTES = 32 * 1024
const MAX_CHUNKS = 64

/**
 * Looks at the first request of a connection and hands on what HTTP/2 can be served on: the socket itself, as if nobody had looked, where the
 * request names a host; a stream that writes other names where it does not, and where it is not clear.
 *
 * Most clients send no request before they saw settings of the server, so they get some at once; their confirmation is kept from who serves.
 *
 * @returns ends the connection; to be called only before it was handed on
 */
export function admitAnyAuthority(
  socket: Socket,
  options: AdmitOptions,
  handOn: (connection: Duplex) => void,
): () => void {
  const { maxHeaderListBytes, canPutBack = !process.versions.bun } = options
  if (!canPutBack) {
    handOn(rewritingStream(socket, new AuthorityRewriter(maxHeaderListBytes), []))
    return () => {}
  }
  const chunks: Buffer[] = []
  let bytes = 0
  let hasSettings = false
  const leave = (): void => {
    clearTimeout(timer)
    socket.removeListener('data', onData)
    socket.removeListener('end', end)
    socket.removeListener('close', leave)
  }
  const rewrite = (): void => {
    leave()
    const rewriter = new AuthorityRewriter(maxHeaderListBytes, hasSettings ? 1 : 0)
    handOn(rewritingStream(socket, rewriter, chunks))
  }
  const end = (): void => {
    leave()
    socket.destroy()
  }
  const asItIs = (begun: Buffer): void => {
    leave()
    socket.pause()
    socket.unshift(begun)
    handOn(socket)
  }
  const onData = (chunk: Buffer): void => {
    chunks.push(chunk)
    bytes += chunk.length
    const begun = Buffer.concat(chunks)
    const seen = bytes > MAX_BYTES || chunks.length > MAX_CHUNKS ? UNCLEAR : look(begun, maxHeaderListBytes)
    if (seen.what === 'nothing yet') {
      if (!seen.isWaiting || hasSettings) return
      hasSettings = true
      socket.write(settings(options.maxConcurrentStreams))
    } else if (seen.what === 'unclear' || !isPlainAuthority(seen.fields)) rewrite()
    else if (!hasSettings) asItIs(begun)
    // Its confirmation is on the way: what comes has to be looked at until then.
    else if (seen.ack === undefined) rewrite()
    else asItIs(Buffer.concat([begun.subarray(0, seen.ack), begun.subarray(seen.ack + FRAME_HEADER_BYTES)]))
  }
  const timer = setTimeout(rewrite, options.patienceMs ?? 5_000)
  socket.on('data', onData)
  socket.once('end', end)
  socket.once('close', leave)
  return end
}

type Seen =
  /** @property isWaiting everything that began has come, settings too */
  | { readonly what: 'nothing yet'; readonly isWaiting: boolean }
  /** @property ack offset of a confirmation of settings before the request */
  | { readonly what: 'request'; readonly fields: readonly HeaderField[]; readonly ack: number | undefined }
  | { readonly what: 'unclear' }

const UNCLEAR: Seen = { what: 'unclear' }

/** Looks for the first request among the first bytes of a connection. */
function look(bytes: Buffer, maxHeaderListBytes: number): Seen {
  const known = Math.min(bytes.length, PREFACE.length)
  if (PREFACE.compare(bytes, 0, known, 0, known) !== 0) return UNCLEAR
  let offset = PREFACE.length
  let isWaiting = false
  let ack: number | undefined
  let block: Buffer[] | undefined
  while (offset + FRAME_HEADER_BYTES <= bytes.length) {
    const { length, type, flags } = readFrameHeader(bytes, offset)
    const end = offset + FRAME_HEADER_BYTES + length
    if (end > bytes.length) return { what: 'nothing yet', isWaiting: false }
    const payload = bytes.subarray(offset + FRAME_HEADER_BYTES, end)
    try {
      if (block === undefined && type === FRAMES.HEADERS) block = [fragmentOf(payload, flags)]
      else if (block !== undefined && type === FRAMES.CONTINUATION) block.push(payload)
      else if (block !== undefined) return UNCLEAR
      else if (type === FRAMES.SETTINGS) {
        if ((flags & FLAGS.ACK) === 0) isWaiting = true
        else if (length === 0) ack ??= offset
      } else if (type !== FRAMES.WINDOW_UPDATE && type !== FRAMES.PRIORITY) return UNCLEAR
      if (block !== undefined && (flags & FLAGS.END_HEADERS) !== 0) {
        const fields = new HpackDecoder(maxHeaderListBytes).decode(Buffer.concat(block))
        return { what: 'request', fields, ack }
      }
    } catch {
      return UNCLEAR
    }
    offset = end
  }
  return { what: 'nothing yet', isWaiting: isWaiting && offset === bytes.length && block === undefined }
}

/** A SETTINGS frame with the one setting that clients must know before their first request. */
function settings(maxConcurrentStreams: number): Buffer {
  const frame = Buffer.alloc(FRAME_HEADER_BYTES + 6)
  frame.writeUIntBE(6, 0, 3)
  frame[3] = FRAMES.SETTINGS
  frame.writeUInt16BE(0x3, FRAME_HEADER_BYTES)
  frame.writeUInt32BE(maxConcurrentStreams, FRAME_HEADER_BYTES + 2)
  return frame
}
