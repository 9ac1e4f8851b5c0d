import { readlinkSync } from 'node:fs'
import { errorMessage, StatusError } from '../../core/error.ts'
import { type Cgroup, parseCgroupMountRoots, parseCgroups } from './cgroup.ts'
import type { HeldProcess } from './held-process.ts'

const CONTAINER_ID = /\b([0-9a-fA-F]{64})\b/
const POD_UID = /\bpod([0-9a-fA-F]{8}[-_][0-9a-fA-F]{4}[-_][0-9a-fA-F]{4}[-_][0-9a-fA-F]{4}[-_][0-9a-fA-F]{12})\b/

/** In which container a process is. Empty: in none, or in no pod. */
export interface ContainerPlace {
  readonly podUid: string
  readonly containerId: string
}

const NOWHERE: ContainerPlace = { podUid: '', containerId: '' }

/** @throws StatusError INTERNAL */
export function cgroupsOf(process: HeldProcess): Cgroup[] {
  try {
    return parseCgroups(process.read('cgroup'))
  } catch (error) {
    throw new StatusError('INTERNAL', `unable to obtain cgroups: ${errorMessage(error)}`, { cause: error })
  }
}

/**
 * The container of a process by its cgroups as they were read, which only the kernel writes. Mounts are made by whoever owns the mount namespace, so a
 * process is told by them only in the agent's own: SPIRE believes everybody's, and so a user who binds another's cgroup in a namespace of
 * his own.
 * @throws StatusError FAILED_PRECONDITION if lines contradict each other, INTERNAL if they cannot be read
 */
export function placeOf(process: HeldProcess, cgroups: readonly Cgroup[], withPod: boolean): ContainerPlace {
  const place = placeIn(
    cgroups.map(({ path }) => path),
    withPod,
  )
  if (place.containerId !== '' || !sharesMounts(process)) return place
  let roots: string[]
  try {
    roots = parseCgroupMountRoots(process.read('mountinfo'))
  } catch (error) {
    throw new StatusError('INTERNAL', `failed to parse mount info: ${errorMessage(error)}`, { cause: error })
  }
  return placeIn(roots, withPod)
}

function sharesMounts(process: HeldProcess): boolean {
  try {
    return process.link('ns/mnt') === readlinkSync('/proc/self/ns/mnt')
  } catch {
    return false
  }
}

/**
 * What all paths say together: one with a pod counts more than those without.
 * @throws StatusError FAILED_PRECONDITION with SPIRE's texts
 */
export function placeIn(paths: readonly string[], withPod: boolean): ContainerPlace {
  let place = NOWHERE
  for (const path of paths) {
    const found = placeInPath(path, withPod)
    if (place.podUid !== '' && found.podUid === '') continue
    if (place.podUid === '' && found.podUid !== '') place = found
    conflict('pod UIDs', place.podUid, found.podUid)
    if (place.containerId !== '') conflict('container IDs', place.containerId, found.containerId)
    place = found
  }
  return place
}

function conflict(what: string, before: string, now: string): void {
  if (before !== now) {
    const both = `(${JSON.stringify(before)}, ${JSON.stringify(now)})`
    throw new StatusError('FAILED_PRECONDITION', `multiple ${what} found ${both}`)
  }
}

/** The last container ID in a path, and the pod before it. */
function placeInPath(path: string, withPod: boolean): ContainerPlace {
  const segments = path.split('/').filter((segment) => segment !== '')
  for (let at = segments.length - 1; at >= 0; at -= 1) {
    const match = CONTAINER_ID.exec(segments[at]!)
    if (!match) continue
    const containerId = match[1]!
    if (!withPod) return { podUid: '', containerId }
    const before = [...segments.slice(0, at), segments[at]!.slice(0, match.index)]
    return { podUid: podIn(before), containerId }
  }
  return NOWHERE
}

function podIn(segments: readonly string[]): string {
  for (const segment of segments.toReversed()) {
    const uid = POD_UID.exec(segment)?.[1]
    if (uid !== undefined) return uid.replaceAll('_', '-')
  }
  return ''
}
