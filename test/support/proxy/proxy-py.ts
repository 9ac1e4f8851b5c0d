import { spawn, spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { eventually } from '../cluster.ts'

const VENV = resolve(import.meta.dirname, '../../../node_modules/.cache/turret/proxy')

export interface HttpProxy {
  readonly port: number
  /** What it was asked to connect to, `host:port`, one for each tunnel that ended. */
  tunnels(): readonly string[]
  stop(): Promise<void>
}

/**
 * Starts proxy.py on loopback, installing it first if need be. It asks for a password.
 * @param folder for its files
 * @param login `name:password`
 */
export async function startProxy(folder: string, login: string): Promise<HttpProxy> {
  spawnSync(join(import.meta.dirname, 'setup'), [VENV], { stdio: 'inherit' })
  const portFile = join(folder, 'proxy.port')
  const logFile = join(folder, 'proxy.log')
  const proxy = spawn(
    join(VENV, 'bin/proxy'),
    // One process: no workers that could outlive it.
    [
      '--hostname',
      '127.0.0.1',
      '--port',
      '0',
      '--port-file',
      portFile,
      '--log-file',
      logFile,
      '--basic-auth',
      login,
    ].concat(['--threaded', '--num-workers', '1', '--num-acceptors', '1']),
    { stdio: 'ignore', cwd: folder },
  )
  const port = await eventually(async () => {
    const found = existsSync(portFile) ? Number(readFileSync(portFile, 'utf8').trim()) : 0
    if (!found) throw new Error('the proxy did not start')
    return found
  })
  return {
    port,
    tunnels: () => [...readFileSync(logFile, 'utf8').matchAll(/CONNECT (\S+:\d+)/g)].map((match) => match[1]!),
    async stop() {
      const ended = new Promise((done) => proxy.once('exit', done))
      proxy.kill()
      await ended
    },
  }
}
