import { spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, rmSync } from 'node:fs'
import { afterAll, expect, test } from 'vitest'
import { Cluster, exitCode, type ServerFiles } from '../support/cluster.ts'

const cluster = new Cluster()
const mounts: string[] = []
afterAll(async () => {
  await cluster.processes.stop()
  for (const mount of mounts) spawnSync('umount', [mount])
  await cluster.stop()
}, 30_000)

/** Puts the data of a server on a disk of two megabytes. @returns whether this user may do so here */
function smallDisk(files: ServerFiles): boolean {
  mkdirSync(files.data)
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=2M', 'tmpfs', files.data]).status === 0
  if (mounted) mounts.push(files.data)
  return mounted
}

function fill(files: ServerFiles): void {
  // It ends with the disk full, and so with an error.
  spawnSync('sh', ['-c', 'cat /dev/zero > "$0"', `${files.data}/fill`])
}

const keys = (files: ServerFiles) => readFileSync(`${files.data}/keys.json`, 'utf8')

const entry = (name: string) => [
  'entry',
  'create',
  '-parentID',
  'spiffe://example.org/node',
  '-spiffeID',
  `spiffe://example.org/${name}`,
  '-selector',
  'unix:uid:1',
]

test('a server does not start on a full disk, and says why in one line', async ({ skip }) => {
  const files = await cluster.serverFiles('unborn')
  skip(!smallDisk(files), 'mounting a small disk takes root')
  fill(files)
  const { code, stdout } = await cluster.processes.run('turret-server', ['run', '-config', files.config])
  expect(code).toBe(1)
  expect(stdout).toMatch(/level=error msg="Server crashed" error=".*database or disk is full"\n$/)
})

test('a server whose disk fills refuses writes, loses nothing, and goes on when there is room', async ({ skip }) => {
  const files = await cluster.serverFiles('full')
  skip(!smallDisk(files), 'mounting a small disk takes root')
  const child = await cluster.startServer(files)
  await cluster.must(files, ...entry('before'))
  const before = keys(files)
  fill(files)

  const refused = await cluster.server(files, ...entry('refused'))
  expect(refused.code).toBe(1)
  expect(refused.stderr).toContain('database or disk is full')
  expect(await cluster.must(files, 'entry', 'count')).toContain('1 registration entry')
  expect((await cluster.server(files, 'healthcheck')).code).toBe(0)
  expect(keys(files)).toBe(before)

  rmSync(`${files.data}/fill`)
  await cluster.must(files, ...entry('after'))
  child.kill('SIGTERM')
  expect(await exitCode(child)).toBe(0)
  await cluster.startServer(files)
  const shown = await cluster.must(files, 'entry', 'show')
  expect(shown).toContain('spiffe://example.org/before')
  expect(shown).toContain('spiffe://example.org/after')
  expect(shown).not.toContain('spiffe://example.org/refused')
  expect(keys(files)).toBe(before)
}, 30_000)
