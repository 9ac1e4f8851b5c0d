import { createHash } from 'node:crypto'
import { mkdirSync, mkdtempSync, readFileSync, realpathSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { unixAttestor } from './plugin.ts'

const never = new AbortController().signal
const self = { pid: process.pid, uid: process.geteuid!(), gid: process.getegid!() }

/** A /proc with one process 7 and tables of names. */
function host(status: string, executable = 'program text') {
  const root = mkdtempSync(join(tmpdir(), 'turret-unix-'))
  mkdirSync(join(root, 'proc/7'), { recursive: true })
  writeFileSync(join(root, 'proc/7/status'), status)
  writeFileSync(join(root, 'program'), executable)
  symlinkSync(join(root, 'program'), join(root, 'proc/7/exe'))
  writeFileSync(join(root, 'passwd'), 'root:x:0:0::/:/bin/sh\nweb:x:1001:2001::/:/bin/sh\nalias:x:1001:1::/:/bin/sh\n')
  writeFileSync(join(root, 'group'), 'web:x:2001:\nlogs:x:2002:web\n')
  return { root, procPath: join(root, 'proc'), passwdPath: join(root, 'passwd'), groupPath: join(root, 'group') }
}

const STATUS = 'Name:\tweb\nUid:\t0\t1001\t0\t0\nGid:\t0\t2001\t0\t0\nGroups:\t2002 2003 \nVmPeak:\t1 kB\n'
const peer = { pid: 7, uid: 1001, gid: 2001 }

test('the running process is told by its own ids', async () => {
  const values = await unixAttestor().attest(self, never)
  expect(values).toContain(`uid:${self.uid}`)
  expect(values).toContain(`gid:${self.gid}`)
  expect(values.some((value) => value.startsWith('path:'))).toBe(false)
})

test('effective ids, names and supplementary groups are reported; ids without a name have none', async () => {
  expect(await unixAttestor(host(STATUS)).attest(peer, never)).toEqual([
    'uid:1001',
    'user:web',
    'gid:2001',
    'group:web',
    'supplementary_gid:2002',
    'supplementary_group:logs',
    'supplementary_gid:2003',
  ])
})

test('path and digest of the running executable come with discover_workload_path', async () => {
  const values = await unixAttestor({ discoverWorkloadPath: true }).attest(self, never)
  const executable = realpathSync(process.execPath)
  expect(values).toContain(`path:${executable}`)
  expect(values).toContain(`sha256:${createHash('sha256').update(readFileSync(executable)).digest('hex')}`)
})

test('an executable over the size limit fails the attestation', async () => {
  const place = host(STATUS, 'x'.repeat(100))
  await expect(
    unixAttestor({ ...place, discoverWorkloadPath: true, workloadSizeLimitBytes: 99 }).attest(peer, never),
  ).rejects.toMatchObject({
    code: 'INTERNAL',
    message: `SHA256 digest: workload ${join(place.root, 'program')} exceeds size limit (100 > 99)`,
  })
})

test('a negative size limit reports the path without a digest', async () => {
  const values = await unixAttestor({ ...host(STATUS), discoverWorkloadPath: true, workloadSizeLimitBytes: -1 }).attest(
    peer,
    never,
  )
  expect(values.some((value) => value.startsWith('path:'))).toBe(true)
  expect(values.some((value) => value.startsWith('sha256:'))).toBe(false)
})

test.each([
  ['a process that is gone', '', 999],
  ['a status without ids', 'Name:\tx\n', 7],
])('%s fails the attestation', async (_, status, pid) => {
  await expect(unixAttestor(host(status)).attest({ ...peer, pid }, never)).rejects.toMatchObject({ code: 'INTERNAL' })
})

test.each([
  ['user', 'Uid:\t0\t0\t0\t0', 'Uid:\t0\t1001\t0\t0'],
  ['group', 'Gid:\t0\t0\t0\t0', 'Gid:\t0\t2001\t0\t0'],
])('a process that runs as another %s than when it connected gets no selectors', async (_, changed, line) => {
  await expect(unixAttestor(host(STATUS.replace(line, changed))).attest(peer, never)).rejects.toMatchObject({
    code: 'INTERNAL',
    message: 'process 7 runs as another user or group than when it connected',
  })
})

test('a user added later is known by name without a restart', async () => {
  const place = host(STATUS.replace('1001', '1005'))
  const peer = { pid: 7, uid: 1005, gid: 2001 }
  const attestor = unixAttestor(place)
  expect(await attestor.attest(peer, never)).not.toContain('user:late')
  writeFileSync(place.passwdPath, 'late:x:1005:1::/:/bin/sh\nanother:x:1006:1::/:/bin/sh\n')
  expect(await attestor.attest(peer, never)).toContain('user:late')
})
