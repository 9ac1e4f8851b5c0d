import { createHash } from 'node:crypto'
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { silentLog } from '../../core/log.ts'
import { readChecksum, startPlugin } from './process.ts'

const folder = mkdtempSync(join(tmpdir(), 'turret-external-'))
afterAll(() => rmSync(folder, { recursive: true }))

function script(name: string, text: string, mode = 0o700): string {
  const path = join(folder, name)
  writeFileSync(path, `#!/bin/sh\n${text}\n`)
  chmodSync(path, mode)
  return path
}
const sha256 = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex')

function start(path: string, more: { checksum?: string; arguments?: string[]; patienceMs?: number } = {}) {
  return startPlugin({
    kind: 'Notifier',
    path,
    arguments: [],
    checksum: undefined,
    directory: folder,
    env: { PATH: process.env.PATH, GIVEN: 'yes' },
    log: silentLog,
    ...more,
  })
}

test('a plugin gets arguments, environment and what go-plugin tells it', async () => {
  const path = script(
    'good',
    `echo "$0 $* $Notifier $GIVEN $PLUGIN_PROTOCOL_VERSIONS $PLUGIN_MIN_PORT $PLUGIN_UNIX_SOCKET_DIR" > ${folder}/told
    echo '1|1|unix|/tmp/nowhere|grpc|'; exec sleep 1000`,
  )
  const plugin = await start(path, { arguments: ['-a', 'b c'] })
  expect(plugin.target).toBe('unix:/tmp/nowhere')
  expect(readFileSync(join(folder, 'told'), 'utf8')).toBe(`${path} -a b c Notifier yes 1 0 ${folder}\n`)
  expect(plugin.ended.aborted).toBe(false)
  await plugin.end(0)
  expect(plugin.ended.reason.message).toBe('plugin process exited: signal: SIGKILL')
})

test('the file that was checked is the one that runs, whatever has its name by then', async () => {
  const path = script('checked', `echo '1|1|unix|/checked|grpc|'; exec sleep 1000`)
  const starting = start(path, { checksum: sha256(path) })
  // It was opened before this runs; the name leads elsewhere from now on.
  rmSync(path)
  script('checked', `echo '1|1|unix|/other|grpc|'; exec sleep 1000`)
  const plugin = await starting
  await plugin.end(0)
  expect(plugin.target).toBe('unix:/checked')
})

test('a file with another checksum is not run', async () => {
  const path = script('changed', `touch ${folder}/ran; echo '1|1|unix|/s|grpc|'`)
  await expect(start(path, { checksum: '00'.repeat(32) })).rejects.toThrow('checksums did not match')
  expect(existsSync(join(folder, 'ran'))).toBe(false)
})

test.each([
  ['xyz', 'checksum is not a valid hex string'],
  ['abc', 'checksum is not a valid hex string'],
  ['abcd', 'expected checksum of length 64; got 4'],
])('%s is no checksum', (checksum, text) => {
  expect(() => readChecksum(checksum)).toThrow(text)
})

test.each([
  ['what does not exist', () => join(folder, 'none'), 'no such file or directory'],
  ['what may not be run', () => script('text', '', 0o600), 'permission denied'],
  ['what ends at once', () => script('ends', 'exit 3'), 'plugin exited before we could connect'],
  [
    'what says something else',
    () => script('other', 'echo hello; exec sleep 1000'),
    'Unrecognized remote plugin message: hello',
  ],
])('%s is no plugin', async (_, path, text) => {
  await expect(start(path())).rejects.toThrow(text)
})

test('who says nothing is not waited for longer than a time, and is gone then', async () => {
  const path = script('mute', `echo $$ > ${folder}/mute.pid; exec sleep 1000`)
  await expect(start(path, { patienceMs: 3_000 })).rejects.toThrow('timeout while waiting for plugin to start')
  const pid = Number(readFileSync(join(folder, 'mute.pid'), 'utf8'))
  expect(() => process.kill(pid, 0)).toThrow('ESRCH')
})

test('who does not end in time is killed', async () => {
  const path = script('stubborn', `trap '' TERM; echo '1|1|unix|/s|grpc|'; while :; do sleep 1; done`)
  const plugin = await start(path)
  await plugin.end(50)
  expect(plugin.ended.reason.message).toBe('plugin process exited: signal: SIGKILL')
})
