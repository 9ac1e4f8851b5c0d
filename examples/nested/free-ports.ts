import { createServer } from 'node:net'

/** Below the ports that systems give to outgoing connections: one of those may be gone by the time a server listens on it. */
const FIRST = 15_000
const LAST = 32_000

/** Ports of loopback on which nobody listens. */
export async function freePorts(count: number): Promise<number[]> {
  const found = new Set<number>()
  while (found.size < count) {
    const port = FIRST + Math.floor(Math.random() * (LAST - FIRST))
    if (await isFree(port)) found.add(port)
  }
  return [...found]
}

/** A port of loopback on which nobody listens. */
export async function freePort(): Promise<number> {
  const [port] = await freePorts(1)
  return port!
}

function isFree(port: number): Promise<boolean> {
  const server = createServer()
  return new Promise((resolve) => {
    server.once('error', () => resolve(false))
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
  })
}
