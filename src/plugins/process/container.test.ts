import { afterAll, expect, test } from 'vitest'
import { FakeProc } from '../../../test/support/proc.ts'
import { parseCgroupMountRoots, parseCgroups } from './cgroup.ts'
import { cgroupsOf, placeIn, placeOf } from './container.ts'
import { HeldProcess } from './held-process.ts'

const A = 'a'.repeat(64)
const B = 'b'.repeat(64)
const POD = '2c48913c-b29f-11e7-9350-020968147796'
const OTHER = '3c48913c-b29f-11e7-9350-020968147796'

test.each([
  ['nothing', [], '', ''],
  ['no container', ['/user.slice/user-1000.slice'], '', ''],
  ['an ID that is too long', [`/docker/${A}a`], '', ''],
  ['Docker, cgroup v1', [`/docker/${A}`, `/docker/${A}`], '', A],
  ['Docker with systemd', [`/system.slice/docker-${A}.scope`], '', A],
  ['below the container', [`/docker/${A}/init.scope`], '', A],
  ['cgroupfs of the kubelet', [`/kubepods/burstable/pod${POD}/${A}`], POD, A],
  [
    'systemd of the kubelet',
    [`/kubepods.slice/kubepods-pod${POD.replaceAll('-', '_')}.slice/cri-o-${A}.scope`],
    POD,
    A,
  ],
  ['pod and ID in one segment', [`/system.slice/x.service/kubepods-pod${POD}:cri-containerd:${A}`], POD, A],
  ['a line with a pod wins over one without', [`/docker/${B}`, `/docker/${B}/kubepods/pod${POD}/${A}`], POD, A],
  ['and is not undone by a later one', [`/kubepods/pod${POD}/${A}`, `/docker/${B}`], POD, A],
])('a container is found: %s', (_, paths, podUid, containerId) => {
  expect(placeIn(paths, true)).toEqual({ podUid, containerId })
})

test.each([
  ['container IDs', [`/docker/${A}`, `/docker/${B}`], `multiple container IDs found ("${A}", "${B}")`],
  ['an ID and none', [`/docker/${A}`, '/x'], `multiple container IDs found ("${A}", "")`],
  ['pods', [`/pod${POD}/${A}`, `/pod${OTHER}/${A}`], `multiple pod UIDs found ("${POD}", "${OTHER}")`],
])('paths that contradict each other name nothing: %s', (_, paths, message) => {
  expect(() => placeIn(paths, true)).toThrow(expect.objectContaining({ code: 'FAILED_PRECONDITION', message }))
})

test('a pod is not looked for where nobody asks', () => {
  expect(placeIn([`/pod${POD}/${A}`, `/pod${OTHER}/${A}`], false)).toEqual({ podUid: '', containerId: A })
})

test('a path of a cgroup may have colons; a line without three fields is refused', () => {
  expect(parseCgroups('0::/a:b\n')).toEqual([{ hierarchy: '0', controllers: '', path: '/a:b' }])
  expect(() => parseCgroups('0:/a')).toThrow('contains 2 colon separated fields but expected at least 3: "0:/a"')
  expect(() => parseCgroups('x')).toThrow('contains 1 colon')
})

test('roots of cgroup mounts are read, whatever optional fields there are', () => {
  const text = `30 1 0:1 /kube\\040x /c rw,ro - cgroup2 c rw\n31 1 0:1 / /c rw shared:1 master:2 - cgroup c rw\n32 1 0:1 /y /c rw shared:1 - ext4 c rw\n`
  expect(parseCgroupMountRoots(text)).toEqual(['/kube x'])
  expect(() => parseCgroupMountRoots('30 1 0:1 / /c rw\n')).toThrow('invalid mount entry')
})

const proc = new FakeProc()
afterAll(() => proc.remove())
const peer = { pid: 7, uid: 1000, gid: 1000 }
const mountinfo = `30 1 0:1 /docker/${A} /sys/fs/cgroup rw - cgroup2 c rw\n`

test.each([
  ['the agent’s own mounts tell of the container', true, A],
  ['mounts of a namespace that somebody else made tell nothing', false, ''],
])('%s', (_, ownMounts, containerId) => {
  proc.set(7, { cgroup: '0::/\n', mountinfo, ownMounts })
  const process = new HeldProcess(proc.path, peer)
  expect(placeOf(process, cgroupsOf(process), false).containerId).toBe(containerId)
  process.close()
})

test('a held process is gone for good, whoever has its pid later', () => {
  proc.set(7, { cgroup: `0::/docker/${A}\n` })
  const process = new HeldProcess(proc.path, peer)
  proc.end(7)
  proc.set(7, { cgroup: `0::/docker/${B}\n` })
  expect(() => process.assertSame()).toThrow('process 7 is gone')
  expect(() => placeOf(process, cgroupsOf(process), false)).toThrow('unable to obtain cgroups')
  process.close()
})

test('a process that runs as somebody else than who connected is not looked at', () => {
  proc.set(7, { cgroup: '0::/\n', uid: 0 })
  expect(() => new HeldProcess(proc.path, peer)).toThrow('runs as another user or group than when it connected')
})
