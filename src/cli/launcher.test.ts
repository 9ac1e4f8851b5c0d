import { execFileSync, spawnSync } from 'node:child_process'
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, expect, test } from 'vitest'
import { VERSION } from './version.ts'

const bin = fileURLToPath(new URL('../../bin/', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'turret-launcher-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

function version(program: string, cwd = folder): { code: number | null; out: string; err: string } {
  const { status, stdout, stderr } = spawnSync(program, ['--version'], { cwd, encoding: 'utf8' })
  return { code: status, out: stdout, err: stderr }
}

test.each(['turret-server', 'turret-agent'])('%s starts from anywhere and prints nothing of its own', (name) => {
  expect(version(join(bin, name))).toEqual({ code: 0, out: '', err: `${VERSION}\n` })
  expect(version(`./${name}`, bin)).toEqual({ code: 0, out: '', err: `${VERSION}\n` })
})

test('the launcher follows absolute and relative links', () => {
  mkdirSync(join(folder, 'sub'))
  symlinkSync(join(bin, 'turret-server'), join(folder, 'one'))
  symlinkSync('../one', join(folder, 'sub', 'two'))
  expect(version(join(folder, 'one')).code).toBe(0)
  expect(version(join(folder, 'sub', 'two'), '/').code).toBe(0)
})

test('without a pinned Node and with an old one, the launcher says what to do', () => {
  const old = join(folder, 'old')
  mkdirSync(join(old, 'bin'), { recursive: true })
  copyFileSync(join(bin, 'turret-agent'), join(old, 'bin', 'turret-agent'))
  writeFileSync(join(old, 'node'), '#!/bin/sh\necho v20.1.0\n')
  chmodSync(join(old, 'node'), 0o755)
  const path = `${old}:/usr/bin:/bin`
  const { status, stderr } = spawnSync(join(old, 'bin', 'turret-agent'), [], { env: { PATH: path }, encoding: 'utf8' })
  expect(status).toBe(1)
  expect(stderr).toMatch(/^turret-agent: needs Node.js 24 or newer, found v20.1.0: run 'npm install' in /)
})

test('the launcher is replaced by the program: one process, its exit code', () => {
  const { status } = spawnSync(join(bin, 'turret-server'), ['nothing'])
  expect(status).toBe(127)
  execFileSync('/bin/sh', ['-n', join(bin, 'turret-server')])
})
