import { closeSync, fchmodSync, openSync, writeFileSync } from 'node:fs'
import { posix } from 'node:path'
import { CommandError, fileError } from './failure.ts'

const PRIVATE = 0o600
const PUBLIC = 0o644

/** Go's `filepath.Join`: parts with single slashes, `.` and `..` resolved; empty parts do not count. */
export function joinPath(...parts: readonly string[]): string {
  const given = parts.filter((part) => part !== '')
  return given.length === 0 ? '' : posix.join(...given).replace(/(?<=.)\/$/, '')
}

/**
 * Writes a file that only its owner may read, whatever it was before.
 * @throws CommandError `<what>: open ...`, or without `what` just `open ...`
 */
export function writePrivate(path: string, data: string, what?: string): void {
  write(path, data, PRIVATE, what)
}

/**
 * Writes a file that everybody may read.
 * @throws CommandError `<what>: open ...`, or without `what` just `open ...`
 */
export function writePublic(path: string, data: string, what?: string): void {
  write(path, data, PUBLIC, what)
}

function write(path: string, data: string, mode: number, what: string | undefined): void {
  let file: number
  try {
    file = openSync(path, 'w', mode)
  } catch (error) {
    const { message } = fileError(error, 'open', path) as Error
    throw new CommandError(what === undefined ? message : `${what}: ${message}`, { cause: error })
  }
  try {
    // A file that was there keeps its mode when opened; a secret must not land in one that others can read.
    if (mode === PRIVATE) fchmodSync(file, PRIVATE)
    writeFileSync(file, data)
  } finally {
    closeSync(file)
  }
}
