import { chmodSync, lstatSync, mkdirSync, unlinkSync } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { dirname } from 'node:path'

export interface UnixListenerOptions {
  readonly path: string
  /** Mode of the socket: 0770 for the server and admin sockets, 0777 for the Workload API. */
  readonly mode: number
  /** Mode of parent directories that have to be made (the umask still applies); default 0750. */
  readonly directoryMode?: number
  /** Connections at once, of all together; default 10000. */
  readonly maxConnections?: number
  /** Gets every connection. Errors and closing of the socket are the receiver's from then on. */
  onConnection(socket: Socket): void
}

export interface Listener {
  /** Where it listens: the path, or host and port. */
  readonly address: string
  /** Stops accepting and removes the socket file; connections already handed over live on. */
  close(): Promise<void>
}

/**
 * Listens on a unix socket. A file left behind by a dead process is removed, as SPIRE does; a socket on which somebody still
 * answers is not taken over, and neither is a file that is no socket.
 *
 * @throws Error with one line of text when the path is in use, no socket, or cannot be made
 */
export async function listenUnix(options: UnixListenerOptions): Promise<Listener> {
  const { path } = options
  mkdirSync(dirname(path), { recursive: true, mode: options.directoryMode ?? 0o750 })
  await removeStaleSocket(path)
  const server = createServer((socket) => {
    // Somebody may reset the connection before its receiver has listeners of its own.
    socket.on('error', () => {})
    options.onConnection(socket)
  })
  server.maxConnections = options.maxConnections ?? 10_000
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    // A thousand workloads may start at once; the default backlog is 511.
    server.listen({ path, backlog: 4096 }, () => {
      server.removeListener('error', reject)
      resolve()
    })
  })
  // accept() can fail when descriptors run out; the listener stays.
  server.on('error', () => {})
  chmodSync(path, options.mode)
  return {
    address: path,
    // libuv unlinks the path when the handle closes.
    close: () => new Promise((resolve) => closeListener(server, resolve)),
  }
}

function closeListener(server: ReturnType<typeof createServer>, done: () => void): void {
  // net.Server's callback waits for every connection; those are the gRPC server's to end.
  server.close()
  setImmediate(done)
}

/**
 * Looks whether `listenUnix` could listen there, and changes nothing.
 * @returns whether there is a socket that nobody serves
 * @throws Error as `listenUnix`
 */
export async function requireFreePath(path: string): Promise<boolean> {
  const found = lstatSync(path, { throwIfNoEntry: false })
  if (found === undefined) return false
  if (!found.isSocket()) throw new Error(`socket path "${path}" exists and is not a socket`)
  if (await answers(path)) throw new Error(`socket path "${path}" is in use by another process`)
  return true
}

async function removeStaleSocket(path: string): Promise<void> {
  if (!(await requireFreePath(path))) return
  try {
    unlinkSync(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path)
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    // ECONNREFUSED is a dead socket. EACCES and EAGAIN mean that somebody owns it.
    socket.once('error', (error: NodeJS.ErrnoException) =>
      resolve(error.code !== 'ECONNREFUSED' && error.code !== 'ENOENT'),
    )
  })
}
