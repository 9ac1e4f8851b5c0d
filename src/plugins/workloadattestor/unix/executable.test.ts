import { createHash } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, symlinkSync, truncateSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { Executables } from './executable.ts'

const folder = mkdtempSync(join(tmpdir(), 'turret-executable-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const never = new AbortController().signal
/** Long after any file of the test changed. */
const LATER = { nowMs: () => Date.now() + 60_000 }
const sha256 = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex')

function file(name: string, bytes: number, fill = 'a'): string {
  const path = join(folder, name)
  writeFileSync(path, fill.repeat(bytes))
  return path
}

test.each([
  ['small', 1000],
  ['large', 5_000_000],
])('a %s file is hashed, and read once', async (name, bytes) => {
  const path = file(name, bytes)
  const executables = new Executables(LATER)
  for (let round = 0; round < 3; round += 1)
    expect(await executables.identify(path, 0, never)).toEqual({ path, digest: sha256(path) })
  expect(executables.reads).toBe(1)
})

test.each([1000, 5_000_000])(
  'a file of %d bytes that was written to again is read again, whatever its mtime says',
  async (bytes) => {
    const path = file(`again-${bytes}`, bytes)
    const executables = new Executables(LATER)
    utimesSync(path, 1_000, 1_000)
    const before = await executables.identify(path, 0, never)
    writeFileSync(path, 'b'.repeat(bytes))
    utimesSync(path, 1_000, 1_000)
    const after = await executables.identify(path, 0, never)
    expect(after.digest).toBe(sha256(path))
    expect(after.digest).not.toBe(before.digest)
  },
)

test('what changed a moment ago is not remembered', async () => {
  const path = file('recent', 1000)
  const executables = new Executables({ nowMs: () => Date.now() + 1_000 })
  for (let round = 0; round < 2; round += 1) await executables.identify(path, 0, never)
  expect(executables.reads).toBe(2)
})

test('what lies on a file system whose times are not the kernel’s is not remembered', async () => {
  // Not even /proc, whose files have times as they please.
  const executables = new Executables(LATER)
  for (let round = 0; round < 2; round += 1) await executables.identify('/proc/version', 0, never)
  expect(executables.reads).toBe(2)
})

test('another file in its place is not taken for it', async () => {
  const [one, two] = [file('one', 5_000_000), file('two', 5_000_000, 'b')]
  const link = join(folder, 'exe')
  symlinkSync(one, link)
  const executables = new Executables(LATER)
  expect((await executables.identify(link, 0, never)).digest).toBe(sha256(one))
  rmSync(link)
  symlinkSync(two, link)
  expect(await executables.identify(link, 0, never)).toEqual({ path: two, digest: sha256(two) })
})

test('a file without end keeps nobody waiting, and is left when its process leaves', async () => {
  const huge = file('huge', 1)
  truncateSync(huge, 2 ** 42)
  const path = file('beside', 5_000_000)
  const executables = new Executables(LATER)
  const stop = new AbortController()
  const endless = executables.identify(huge, 0, stop.signal)
  expect((await executables.identify(path, 0, never)).digest).toBe(sha256(path))
  stop.abort(new Error('it left'))
  await expect(endless).rejects.toThrow('it left')
})

test('what cannot be read, or is too large, is said', async () => {
  const executables = new Executables(LATER)
  await expect(executables.identify(join(folder, 'none'), 0, never)).rejects.toThrow('SHA256 digest: open')
  await expect(executables.identify(file('ten', 10), 9, never)).rejects.toThrow('exceeds size limit (10 > 9)')
})
