import { closeSync, openSync, writeFileSync } from 'node:fs'
import { posix } from 'node:path'
import { createPrivate } from '../plugins/replace-file.ts'
import { CommandError, fileError } from './failure.ts'

const PUBLIC = 0o644

/** Go's `filepath.Join`: parts with single slashes, `.` and `..` resolved; empty parts do not count. */
export function joinPath(...parts: readonly string[]): string {
  const given = parts.filter((part) => part !== '')
  return given.length === 0 ? '' : posix.join(...given).replace(/(?<=.)\/$/, '')
}

/**
 * Writes a file that only its owner may read, whatever was there before: a secret must land in no file that others can read.
 * @throws CommandError `<what>: open ...`, or without `what` just `open ...`
 */
export function writePrivate(path: string, data: string, what?: string): void {
  write(path, data, what, createPrivate)
}

/**
 * Writes a file that everybody may read.
 * @throws CommandError `<what>: open ...`, or without `what` just `open ...`
 */
export function writePublic(path: string, data: string, what?: string): void {
  write(path, data, what, () => openSync(path, 'w', PUBLIC))
}

function write(path: string, data: string, what: string | undefined, openFile: (path: string) => number): void {
  let file: number
  try {
    file = openFile(path)
  } catch (error) {
    const { message } = fileError(error, 'open', path) as Error
    throw new CommandError(what === undefined ? message : `${what}: ${message}`, { cause: error })
  }
  try {
    writeFileSync(file, data)
  } finally {
    closeSync(file)
  }
}
