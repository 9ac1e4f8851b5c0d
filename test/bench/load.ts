import { execFile, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, statSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)
const ROOT = resolve(import.meta.dirname, '../..')

/** One line of the load generator. */
export interface Measurement {
  readonly op: string
  readonly per_s?: number
  readonly p50_ms?: number
  readonly p99_ms?: number
  readonly cpu_ms_per_op?: number
  readonly rss_mib?: number
  readonly errors?: number
  readonly first_error?: string
  /** Of `hold-x509`. */
  readonly failed?: number
  readonly all_served_s?: number
  readonly cpu_ms_per_stream?: number
  readonly kib_per_stream?: number
}

/** Runs the load generator, and ends it after a time. @returns what it had measured by then, in the order of its arguments */
export type Load = (args: readonly string[], timeoutMs: number) => Promise<readonly Measurement[]>

/**
 * Finds the load generator, building it if its source is given.
 * @param path its source folder or the built program; default $SPIFFELOAD, then `../shared/bench` beside this checkout
 * @throws Error that says what to do if there is none
 */
export function findLoad(path = process.env.SPIFFELOAD ?? join(ROOT, '../shared/bench')): Load {
  const program = programAt(resolve(path))
  return async (args, timeoutMs) => {
    const limits = { maxBuffer: 1 << 24, timeout: timeoutMs, killSignal: 'SIGKILL' } as const
    const { stdout } = await run(program, args, limits).catch((error: { killed?: boolean; stdout: string }) => {
      if (error.killed) return error
      throw error
    })
    return stdout
      .trim()
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as Measurement)
  }
}

function programAt(path: string): string {
  if (!existsSync(path)) throw new Error(`there is no load generator at ${path}. ${ADVICE}`)
  if (!statSync(path).isDirectory()) return path
  const folder = join(ROOT, 'node_modules/.cache/turret')
  mkdirSync(folder, { recursive: true })
  const program = join(folder, 'spiffeload')
  const built = spawnSync('go', ['build', '-o', program, '.'], { cwd: path, encoding: 'utf8' })
  if (built.error) throw new Error(`the load generator in ${path} needs Go to be built. ${ADVICE}`)
  if (built.status !== 0) throw new Error(`go build of ${path} failed:\n${built.stderr}\n${ADVICE}`)
  return program
}

const ADVICE =
  'Name its source folder or a built program with --load or SPIFFELOAD. Where the Go proxy has no github.com/spiffe/spire-api-sdk, ' +
  'build it with a replace: go mod edit -replace github.com/spiffe/spire-api-sdk=<a clone of it>'
