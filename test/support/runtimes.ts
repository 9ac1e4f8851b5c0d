import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'

const BINARIES = resolve(import.meta.dirname, '../runtimes/binaries/node_modules')

export type Runtime = 'node' | 'deno' | 'bun'

const PROGRAMS: Record<Exclude<Runtime, 'node'>, readonly string[]> = {
  deno: ['linux-x64-glibc', 'linux-arm64-glibc', 'darwin-arm64', 'darwin-x64'].map((name) => `@deno/${name}/deno`),
  bun: ['linux-x64', 'linux-aarch64', 'darwin-aarch64', 'darwin-x64'].map((name) => `@oven/bun-${name}/bin/bun`),
}

/** The program of a runtime, as `bin/on-runtime` finds it; undefined if there is none. */
export function programOf(runtime: Runtime): string | undefined {
  if (runtime === 'node') return process.execPath
  const pinned = PROGRAMS[runtime].map((name) => join(BINARIES, name)).find((path) => existsSync(path))
  if (pinned) return pinned
  return spawnSync(runtime, ['--version']).status === 0 ? runtime : undefined
}

/** Why tests on a runtime are skipped, for their titles; empty if they run. */
export function skipNote(runtime: Runtime): string {
  return programOf(runtime) === undefined
    ? ` (skipped: there is no ${runtime}: npm ci --prefix test/runtimes/binaries)`
    : ''
}

const ARGUMENTS: Record<Runtime, readonly string[]> = {
  node: [],
  deno: ['run', '--allow-all', '--no-check', '--no-lock'],
  bun: [],
}

/** What runs a script on a runtime that is there. */
export function commandOf(runtime: Runtime): readonly [program: string, ...arguments_: string[]] {
  return [programOf(runtime)!, ...ARGUMENTS[runtime]]
}
