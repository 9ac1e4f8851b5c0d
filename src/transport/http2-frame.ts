// The outside of HTTP/2 frames. RFC 9113 4.1, 6

/** What a client sends first. RFC 9113 3.4 */
export const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1')
export const FRAME_HEADER_BYTES = 9

export const FRAMES = { DATA: 0, HEADERS: 1, PRIORITY: 2, SETTINGS: 4, WINDOW_UPDATE: 8, CONTINUATION: 9 } as const
export const FLAGS = { END_STREAM: 0x1, ACK: 0x1, END_HEADERS: 0x4, PADDED: 0x8, PRIORITY: 0x20 } as const

export interface FrameHeader {
  /** Of the payload, bytes. */
  readonly length: number
  readonly type: number
  readonly flags: number
  readonly streamId: number
}

export function readFrameHeader(bytes: Buffer, offset: number): FrameHeader {
  return {
    length: bytes.readUIntBE(offset, 3),
    type: bytes[offset + 3]!,
    flags: bytes[offset + 4]!,
    streamId: bytes.readUInt32BE(offset + 5) & 0x7fffffff,
  }
}
