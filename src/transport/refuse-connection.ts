import { constants } from 'node:http2'
import type { Socket } from 'node:net'

/** Tells a client of HTTP/2 why it is sent away, which grpc-go shows in its error, and ends the connection. */
export function refuseConnection(socket: Socket, reason: string): void {
  socket.on('error', () => {})
  const text = Buffer.from(reason)
  const goaway = Buffer.alloc(8 + text.length)
  goaway.writeUInt32BE(constants.NGHTTP2_ENHANCE_YOUR_CALM, 4)
  text.copy(goaway, 8)
  // What a server says first is its settings.
  socket.end(Buffer.concat([frame(SETTINGS, Buffer.alloc(0)), frame(GOAWAY, goaway)]), () => socket.destroy())
}

const SETTINGS = 4
const GOAWAY = 7

function frame(type: number, payload: Buffer): Buffer {
  const header = Buffer.alloc(9)
  header.writeUIntBE(payload.length, 0, 3)
  header[3] = type
  return Buffer.concat([header, payload])
}
