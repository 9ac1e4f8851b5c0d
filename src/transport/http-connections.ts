import type { Server } from 'node:http'
import type { Socket } from 'node:net'
import { type SharedBoundOptions, sharedBound } from './shared-bound.ts'
import { clientAddress, networkOf } from './tcp-listener.ts'

/**
 * Bounds the connections of a network to a server of HTTP/1.1. One too many hears 503 before it has said anything; on Bun, which shows a
 * connection to nobody before its first request, with that.
 */
export function boundConnections(server: Server, options: SharedBoundOptions): void {
  const bound = sharedBound<string>(options)
  server.on('connection', (socket: Socket) => {
    const network = networkOf(clientAddress(socket))
    if (bound.take(network)) socket.once('close', () => bound.give(network))
    else refuse(socket)
  })
}

function refuse(socket: Socket): void {
  if (!process.versions.bun) {
    socket.end(TOO_MANY, () => socket.destroy())
    return
  }
  // Bun sends nothing with the end of a connection that has no request yet, and does not end it.
  socket.write(TOO_MANY)
  socket.end()
  setImmediate(() => socket.destroy())
}

const TOO_MANY = 'HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n'
