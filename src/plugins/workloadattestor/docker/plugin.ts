import { setTimeout as wait } from 'node:timers/promises'
import type { PlainObject } from '../../../config/plain.ts'
import { StatusError } from '../../../core/error.ts'
import type { PeerProcess, WorkloadAttestor } from '../../../core/plugin.ts'
import { half, type PluginDeclaration } from '../../plugin.ts'
import { textOf } from '../../plugin-data.ts'
import { type Cgroup, parseCgroups } from '../../process/cgroup.ts'
import { cgroupsOf, placeOf } from '../../process/container.ts'
import { HeldProcess, readWhole } from '../../process/held-process.ts'
import { type Container, Engine, type EngineAddress, parseEngineAddress } from './engine.ts'
import { type ContainerIdFinder, containerIdFinder } from './matchers.ts'

export interface DockerOptions {
  readonly docker: EngineAddress
  /** Of the API; empty: the engine's own. */
  readonly dockerVersion: string
  readonly podman: EngineAddress
  /** Where the engine of a user listens. */
  readonly podmanOf: (uid: number) => EngineAddress
  /** The finder of the old way, by configured patterns. */
  readonly findId: ContainerIdFinder | undefined
  /** Default `/proc`. */
  readonly procPath?: string
  /** For all questions about one process. Default 10 seconds. */
  readonly deadlineMs?: number
  /** Before the second try; it doubles. Default 100. */
  readonly retryMs?: number
}

const RETRIES = 3

/**
 * Tells a process by its container in Docker or Podman. Values as in agent.md 18.2: `label`, `env`, `image_id`, `image_config_digest`. A
 * process outside of containers has none.
 */
export function dockerAttestor(options: DockerOptions): WorkloadAttestor {
  const { procPath = '/proc', deadlineMs = 10_000, retryMs = 100 } = options

  async function attest(peer: PeerProcess, caller: AbortSignal): Promise<readonly string[]> {
    const process = new HeldProcess(procPath, peer)
    try {
      const cgroups = cgroupsOf(process)
      const id = containerIdOf(process, cgroups, options.findId)
      if (id === '') return []
      const signal = AbortSignal.any([caller, AbortSignal.timeout(deadlineMs)])
      const engine = new Engine(engineOf(cgroups, options), options.dockerVersion)
      const container = await inspect(engine, id, retryMs, signal)
      const digest = await engine.imageId(container.imageId || container.imageName, signal).catch(() => '')
      signal.throwIfAborted()
      process.assertSame()
      assertUnmoved(cgroups, cgroupsOf(process))
      assertInside(cgroups, parseCgroups(readWhole(`${procPath}/${container.pid}/cgroup`)), id)
      return valuesOf(container, digest)
    } finally {
      process.close()
    }
  }

  return { name: 'docker', attest }
}

function containerIdOf(
  process: HeldProcess,
  cgroups: readonly Cgroup[],
  findId: ContainerIdFinder | undefined,
): string {
  if (!findId) return placeOf(process, cgroups, false).containerId
  const found = new Set(cgroups.flatMap(({ path }) => findId(path) ?? []))
  const [first = '', second] = found
  if (second !== undefined)
    throw new Error(`workloadattestor/docker: multiple container IDs found in cgroups (${first}, ${second})`)
  if (found.size === 1 && first === '')
    throw new Error('workloadattestor/docker: a pattern matched, but no container id was found')
  return first
}

/** Podman names its cgroups, and those of a user's own containers are below the user's slice. */
function engineOf(cgroups: readonly Cgroup[], { docker, podman, podmanOf }: DockerOptions): EngineAddress {
  const path = cgroups.find((cgroup) => /libpod-|\/libpod\//.test(cgroup.path))?.path
  if (path === undefined) return docker
  const uid = Number(/\/user-(\d{1,10})\.slice\//.exec(path)?.[1] ?? Number.NaN)
  return uid < 2 ** 32 ? podmanOf(uid) : podman
}

async function inspect(engine: Engine, id: string, retryMs: number, signal: AbortSignal): Promise<Container> {
  for (let retry = 0; ; retry += 1) {
    try {
      return await engine.container(id, signal)
    } catch (error) {
      if (signal.aborted || retry === RETRIES) throw error
      await wait(retryMs * 2 ** retry, undefined, { signal })
    }
  }
}

/** What was concluded from cgroups holds only while the process stays in them. */
function assertUnmoved(before: readonly Cgroup[], now: readonly Cgroup[]): void {
  const same = before.length === now.length && before.every(({ path }, at) => path === now[at]!.path)
  if (!same) throw new StatusError('FAILED_PRECONDITION', 'the process changed its cgroup')
}

/**
 * Who may make cgroups (a user's services, a container with a writable tree) may name one as another's container. So the process must
 * be where the container's own first process is, or below.
 */
function assertInside(caller: readonly Cgroup[], first: readonly Cgroup[], id: string): void {
  const named = caller.filter(({ path }) => path.includes(id))
  const inside = named.every(({ hierarchy, path }) => {
    const its = first.find((one) => one.hierarchy === hierarchy)?.path
    return its?.includes(id) && (path === its || path.startsWith(`${its.replace(/\/init\.scope$/, '')}/`))
  })
  // Without a cgroup of that name, the container is the agent's own, known by mounts that only root makes.
  if (!inside) throw new StatusError('FAILED_PRECONDITION', 'the process is not in the cgroup of the container')
}

function valuesOf({ labels, env, imageName }: Container, digest: string): string[] {
  const values = labels.map(([name, value]) => `label:${name}:${value}`)
  for (const one of env) values.push(`env:${one}`)
  if (imageName !== '') values.push(`image_id:${imageName}`)
  if (digest !== '') values.push(`image_config_digest:${digest}`)
  return values
}

function read(data: PlainObject): DockerOptions {
  if (data.sigstore !== undefined)
    throw new Error('sigstore: this version does not verify signatures of images; remove the block')
  const matchers = data.container_id_cgroup_matchers ?? []
  const patterns = Array.isArray(matchers) ? matchers.map(String) : [String(matchers)]
  if (patterns.length > 0 && data.use_new_container_locator !== false)
    throw new Error(
      'the new container locator and custom cgroup matchers cannot both be used; to continue using custom matchers set use_new_container_locator=false',
    )
  const template = textOf(data, 'podman_socket_path_template') || 'unix:///run/user/%d/podman/podman.sock'
  assertTemplate(template)
  return {
    docker: parseEngineAddress(textOf(data, 'docker_socket_path') || 'unix:///var/run/docker.sock'),
    dockerVersion: textOf(data, 'docker_version'),
    podman: parseEngineAddress(textOf(data, 'podman_socket_path') || 'unix:///run/podman/podman.sock'),
    podmanOf: (uid) => parseEngineAddress(template.replace(/%[%d]/g, (found) => (found === '%d' ? String(uid) : '%'))),
    findId: patterns.length > 0 ? containerIdFinder(patterns) : undefined,
  }
}

function assertTemplate(template: string): void {
  const refuse = (why: string) => new Error(`invalid podman_socket_path_template: ${why}`)
  const rest = template.replace(/%[%d]/g, '')
  if (rest.endsWith('%')) throw refuse('trailing % at end of template')
  if (rest.includes('%')) throw refuse('template only supports escaped %% or the %d UID placeholder')
  if ((template.match(/%[%d]/g) ?? []).filter((mark) => mark === '%d').length !== 1)
    throw refuse('template must contain exactly one %d UID placeholder')
  parseEngineAddress(template.replace('%d', '0'))
}

const declaration: PluginDeclaration<'WorkloadAttestor'> = {
  agent: half({
    keys: [
      'docker_socket_path',
      'docker_version',
      'use_new_container_locator',
      'verbose_container_locator_logs',
      'container_id_cgroup_matchers',
      'podman_socket_path',
      'podman_socket_path_template',
      'sigstore',
    ],
    read,
    make: (options, { env }) => dockerAttestor({ ...options, procPath: env.HOST_PROC || '/proc' }),
  }),
}
export default declaration
