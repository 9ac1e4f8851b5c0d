import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { replaceFile, writePrivateFile } from './replace-file.ts'

const folders: string[] = []
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true })
})
function folder(): string {
  const made = mkdtempSync(join(tmpdir(), 'private-'))
  folders.push(made)
  return made
}
const modeOf = (path: string) => statSync(path).mode & 0o777

test.each([
  ['replaceFile', '.tmp', replaceFile],
  ['writePrivateFile', '', writePrivateFile],
] as const)('%s writes into no file that was left or planted where it writes', async (_, suffix, write) => {
  const place = folder()
  const path = join(place, 'keys.json')
  writeFileSync(path + suffix, 'old')
  chmodSync(path + suffix, 0o644)
  await write(path, 'secret')
  expect(readFileSync(path, 'utf8')).toBe('secret')
  expect(modeOf(path)).toBe(0o600)
})

test.each([
  ['replaceFile', '.tmp', replaceFile],
  ['writePrivateFile', '', writePrivateFile],
] as const)('%s does not write through a link', async (_, suffix, write) => {
  const place = folder()
  const path = join(place, 'keys.json')
  const elsewhere = join(place, 'elsewhere')
  writeFileSync(elsewhere, 'mine')
  symlinkSync(elsewhere, path + suffix)
  await write(path, 'secret')
  expect(readFileSync(elsewhere, 'utf8')).toBe('mine')
  expect(readFileSync(path, 'utf8')).toBe('secret')
  expect(modeOf(path)).toBe(0o600)
})

test('a mask that gives rights away does not matter', async () => {
  const path = join(folder(), 'keys.json')
  const before = process.umask(0)
  try {
    await replaceFile(path, 'secret')
  } finally {
    process.umask(before)
  }
  expect(modeOf(path)).toBe(0o600)
})
