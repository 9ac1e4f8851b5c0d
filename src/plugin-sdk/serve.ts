import { writeSync } from 'node:fs'
import { explanation, isStartedByHost } from './handshake.ts'
import { hclog } from './hclog.ts'
import { KINDS, type PluginKind } from './kinds.ts'
import type { PrintedOutput } from './output.ts'
import type { PluginProgram } from './program.ts'

const STDOUT = 1
const STDERR = 2
const PARENT_CHECK_MS = 1_000

/**
 * Serves a plugin to the SPIRE or Turret that started this process, and ends the process with the host. Started by anybody else, it says what
 * it is and exits 1.
 */
export async function servePlugin<K extends PluginKind, Config>(program: PluginProgram<K, Config>): Promise<never> {
  if (!isStartedByHost(KINDS[program.kind].type, process.env)) {
    writeSync(STDERR, explanation(program.kind, process.argv[1] ?? 'This program', process.env))
    process.exit(1)
  }
  const log = hclog(writeToHost)
  const parent = process.ppid
  // The terminal sends this to the whole group; the host decides when its plugins end.
  process.on('SIGINT', () => {})
  // Loaded here, so that what is started by hand answers at once.
  const { startPlugin } = await import('./start.ts')
  const plugin = await startPlugin(program, { env: process.env, log })
  process.on('exit', plugin.removeSocket)
  process.on('SIGTERM', () => void plugin.stop())
  // A host may die before it connects.
  setInterval(() => {
    if (process.ppid !== parent) void plugin.stop()
  }, PARENT_CHECK_MS)
  writeSync(STDOUT, plugin.line)
  captureStdout(plugin.output)
  await plugin.ended
  process.exit(0)
}

/** A host whose log is slow, or gone, must not take the plugin down. */
function writeToHost(line: string): void {
  try {
    writeSync(STDERR, line)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'EAGAIN' && code !== 'EPIPE') throw error
  }
}

/** Nobody reads stdout after the first line: what is printed there goes through the host's stream. */
function captureStdout(output: PrintedOutput): void {
  process.stdout.write = ((chunk: string | Uint8Array, encoding?: unknown, done?: unknown): boolean => {
    output.print('STDOUT', typeof chunk === 'string' ? Buffer.from(chunk) : chunk)
    const callback = typeof encoding === 'function' ? encoding : done
    if (typeof callback === 'function') queueMicrotask(callback as () => void)
    return true
  }) as typeof process.stdout.write
}
