import { spawn, spawnSync } from 'node:child_process'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'

const VENV = resolve(import.meta.dirname, '../../../node_modules/.cache/turret/moto')

/** Whether this machine can make the environment that moto runs in. */
export const hasPython = spawnSync('python3', ['-m', 'venv', '--help']).status === 0

export interface Service {
  /** `http://127.0.0.1:<port>`. */
  readonly address: string
  stop(): void
}

/** Starts moto's AWS on loopback, installing it first if need be. */
export async function startMoto(): Promise<Service> {
  spawnSync(join(import.meta.dirname, 'setup'), [VENV], { stdio: 'inherit' })
  const moto = spawn(join(VENV, 'bin/python'), [join(import.meta.dirname, 'moto_server.py')], {
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  for await (const port of createInterface(moto.stdout)) {
    return { address: `http://127.0.0.1:${port}`, stop: () => moto.kill() }
  }
  throw new Error('moto did not start')
}
