import { readFileSync, statSync } from 'node:fs'
import { resolve } from 'node:path'
import { expandEnv } from '../config/expand-env.ts'
import { type ConfigNotice, UnknownConfigError } from '../config/file.ts'
import { ConfigError } from '../config/hcl.ts'
import type { LoggingOptions } from '../config/logging.ts'
import { errorMessage } from '../core/error.ts'
import type { Log, LogFields } from '../core/log.ts'
import {
  admitDebuggerSignal,
  DENO_GRACE_MS,
  ignoreDebuggerSignal,
  NO_PQ_GROUPS,
  PQ_GROUPS,
  unfitRuntime,
} from '../transport/runtime.ts'
import { CommandError } from './failure.ts'
import { openLog, type ProcessLog } from './logger.ts'
import { checkEnvironment } from './process-environment.ts'

/**
 * Reads a configuration and turns it into options.
 * @param onUnknown before it is thrown that there are unknown keys; puts them on the log
 * @throws CommandError with the text for the operator
 */
export function loadConfig<T>(
  path: string,
  expand: boolean,
  environment: Readonly<Record<string, string | undefined>>,
  read: (text: string, name: string) => T,
  onUnknown = (error: UnknownConfigError) =>
    logNotices(error.notices, openLog({ level: 'info', format: '', file: '', sourceLocation: false }).log),
): T {
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(readFileSync(path))
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT')
      throw new CommandError(`could not find config file ${resolve(path)}: please use the -config flag`)
    if (error instanceof TypeError)
      throw new CommandError(`unable to decode configuration at ${JSON.stringify(path)}: illegal UTF-8 encoding`)
    throw new CommandError(`unable to read configuration at ${JSON.stringify(path)}: ${errorMessage(error)}`)
  }
  try {
    return read(expand ? expandEnv(text, environment) : text, path)
  } catch (error) {
    if (error instanceof UnknownConfigError) {
      onUnknown(error)
      throw new CommandError(error.message, { hints: error.hints })
    }
    if (error instanceof ConfigError) throw new CommandError(error.message)
    throw error
  }
}

/** @throws CommandError if this runtime is too old, its environment opens it to others, or it cannot keep what the configuration asks for */
export function checkRuntime(options: { readonly requirePqKem: boolean }): void {
  checkEnvironment(process.env, process.execArgv)
  const unfit = unfitRuntime()
  if (unfit !== undefined) throw new CommandError(unfit)
  if (options.requirePqKem && PQ_GROUPS === undefined) throw new CommandError(NO_PQ_GROUPS)
}

/** @throws CommandError if the file of the log cannot be opened */
export function openProcessLog(options: LoggingOptions): ProcessLog {
  try {
    return openLog(options)
  } catch (error) {
    throw new CommandError(errorMessage(error))
  }
}

export function logNotices(notices: readonly ConfigNotice[], log: Log): void {
  for (const { level, message, fields } of notices) log[level](message, fields)
}

/** Says why a server or an agent could not start or go on, and what its error advises. */
export function logCrash(log: Log, message: string, error: unknown): void {
  log.error(message, { error: errorMessage(error) })
  if (error instanceof CommandError) for (const hint of error.hints) log.error(hint)
}

/**
 * Work that nobody waits for may fail without ending the process: one call must not take all others with it. What ran to an exception in between
 * ends it, with a line in the log.
 */
export function outliveStrayFailures(log: Log): void {
  process.on('unhandledRejection', (reason) => log.error('Unexpected error', strayFields(reason)))
  process.on('uncaughtException', (error) => {
    log.error('Unexpected error ended the process', strayFields(error))
    process.exit(1)
  })
}

/** Nothing else says where it came from. The log cuts what is long. */
function strayFields(error: unknown): LogFields {
  return { error: errorMessage(error), stack: error instanceof Error ? error.stack : undefined }
}

/** Warns of a directory in which others may put files of their own, or take ours away. */
export function warnIfShared(directory: string, what: string, log: Log): void {
  const found = statSync(directory, { throwIfNoEntry: false })
  if (found && (found.mode & 0o002) !== 0)
    log.warn(`The directory of the ${what} may be written by everybody: give it a directory of its own`, {
      dir: directory,
    })
}

const UMASK = 0o027

/** Takes rights away from others than owner and group, if the process came with a more generous umask. */
export function tightenUmask(log: Log): void {
  const current = process.umask(UMASK)
  if ((current & UMASK) === UMASK) {
    process.umask(current)
    return
  }
  const octal = (mask: number) => `0${mask.toString(8).padStart(3, '0')}`
  process.umask(current | UMASK)
  log.warn(`Current umask ${octal(current)} is too permissive; setting umask ${octal(current | UMASK)}`)
}

/** A signal that aborts on SIGINT and SIGTERM; SIGUSR2 reopens the log. SIGUSR1 has plugins out of process configured anew: `onReload`. */
export function shutdownSignal(processLog: ProcessLog): AbortSignal {
  const controller = new AbortController()
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.on(name, () => controller.abort(name))
  if ('Deno' in globalThis) setTimeout(ignoreDebuggerSignal, DENO_GRACE_MS).unref()
  else process.on('SIGUSR1', () => processLog.log.debug('No plugin can be reconfigured while it runs'))
  process.on('SIGUSR2', () => processLog.reopen())
  return controller.signal
}

/** Has SIGUSR1 configure plugins out of process anew, one signal after the other, until the process is told to end. */
export async function onReload(reconfigure: () => Promise<void>, signal: AbortSignal): Promise<void> {
  let last = Promise.resolve()
  const former = process.listeners('SIGUSR1')
  // Never without a listener: the signal would end the process.
  process.on('SIGUSR1', () => {
    last = last.then(() => (signal.aborted ? undefined : reconfigure()))
  })
  for (const listener of former) process.off('SIGUSR1', listener)
  await admitDebuggerSignal()
}
