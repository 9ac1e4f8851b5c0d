import type { Server } from 'node:http'
import type { Socket } from 'node:net'
import { type SharedBoundOptions, sharedBound } from './shared-bound.ts'
import { clientAddress, networkOf } from './tcp-listener.ts'

/** Bounds the connections of a network to a server of HTTP/1.1. One too many hears 503 before it has said anything. */
export function boundConnections(server: Server, options: SharedBoundOptions): void {
  const bound = sharedBound<string>(options)
  server.on('connection', (socket: Socket) => {
    const network = networkOf(clientAddress(socket))
    if (bound.take(network)) socket.once('close', () => bound.give(network))
    else socket.end(TOO_MANY, () => socket.destroy())
  })
}

const TOO_MANY = 'HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n'
