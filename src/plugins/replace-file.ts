import { closeSync, fchmodSync, openSync, rmSync, writeFileSync } from 'node:fs'
import { open, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'

const PRIVATE = 0o600

/**
 * Makes a file that only its owner may read, in place of whatever had the name: a file that others could read, or have open, and a link that
 * leads elsewhere are never written to.
 * @returns its descriptor
 * @throws Error EEXIST if somebody puts something there at this very moment
 */
export function createPrivate(path: string): number {
  rmSync(path, { force: true })
  // Exclusive: it must not be there, not even as a link.
  const file = openSync(path, 'wx', PRIVATE)
  fchmodSync(file, PRIVATE)
  return file
}

/** Writes a file that only its owner may read. */
export function writePrivateFile(path: string, text: string): void {
  const file = createPrivate(path)
  try {
    writeFileSync(file, text)
  } finally {
    closeSync(file)
  }
}

/**
 * Replaces a file by another text, mode 0600, so that a crash leaves the old one or the new one: written beside it, synced to the
 * disk, renamed.
 */
export async function replaceFile(path: string, text: string): Promise<void> {
  const temporary = `${path}.tmp`
  await rm(temporary, { force: true })
  const file = await open(temporary, 'wx', PRIVATE)
  try {
    await file.chmod(PRIVATE)
    await file.writeFile(text)
    await file.sync()
  } catch (error) {
    await rm(temporary, { force: true })
    throw error
  } finally {
    await file.close()
  }
  await rename(temporary, path)
  const folder = await open(dirname(path), 'r')
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}
