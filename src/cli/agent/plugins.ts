import { mkdirSync, rmSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { PluginConfig } from '../../config/plugins.ts'
import { StatusError } from '../../core/error.ts'
import type { AgentNodeAttestor, KeyManager, WorkloadAttestor } from '../../core/plugin.ts'
import { joinTokenAttestor } from '../../plugins/agent-nodeattestor/join_token.ts'
import { x509PopAgentAttestor, x509PopFiles } from '../../plugins/agent-nodeattestor/x509pop.ts'
import { diskKeyManager } from '../../plugins/keymanager/disk.ts'
import { memoryKeyManager } from '../../plugins/keymanager/memory.ts'
import { writePrivateFile } from '../../plugins/replace-file.ts'
import { unixAttestor } from '../../plugins/workloadattestor/unix.ts'
import { type PluginMakers, PluginSet, textOf, withoutData } from '../plugin-set.ts'

export interface AgentPlugins {
  readonly keyManager: KeyManager
  readonly nodeAttestor: AgentNodeAttestor
  readonly workloadAttestors: readonly WorkloadAttestor[]
}

const TYPES = ['KeyManager', 'NodeAttestor', 'WorkloadAttestor', 'SVIDStore']

const keyManagers: PluginMakers<KeyManager> = {
  memory(data) {
    withoutData(data)
    return memoryKeyManager()
  },
  disk(data) {
    const directory = textOf(data, 'directory')
    if (directory === '') throw new Error('directory must be configured')
    const path = resolve(directory)
    mkdirSync(path, { recursive: true, mode: 0o700 })
    const probe = join(path, '.probe')
    writePrivateFile(probe, '')
    rmSync(probe)
    return diskKeyManager(join(path, 'keys.json'))
  },
}

const nodeAttestors: PluginMakers<AgentNodeAttestor> = {
  // The token comes from elsewhere in the configuration; without one the attestor cannot do anything.
  join_token: () => missingToken,
  x509pop: (data) => x509PopAgentAttestor(x509PopFiles(data)),
}

const missingToken: AgentNodeAttestor = {
  name: 'join_token',
  async begin() {
    throw new StatusError('INVALID_ARGUMENT', 'nodeattestor(join_token): join token was not provided')
  },
}

const workloadAttestors: PluginMakers<WorkloadAttestor> = {
  unix: (data) =>
    unixAttestor({
      discoverWorkloadPath: data.discover_workload_path === true,
      workloadSizeLimitBytes: Number(textOf(data, 'workload_size_limit') || '0'),
      procPath: process.env.HOST_PROC || '/proc',
    }),
}

/**
 * Makes the plugins of an agent configuration.
 * @param joinToken replaces the configured node attestor, as in SPIRE
 * @throws CommandError with SPIRE's texts
 */
export async function makeAgentPlugins(
  configs: readonly PluginConfig[],
  joinToken: string | undefined,
): Promise<AgentPlugins> {
  const plugins = new PluginSet(configs, TYPES)
  const [[, keyManager]] = (await plugins.make('KeyManager', keyManagers, { min: 1, max: 1 })) as [[string, KeyManager]]
  const [[, configured]] = (await plugins.make('NodeAttestor', nodeAttestors, { min: 1, max: 1 })) as [
    [string, AgentNodeAttestor],
  ]
  const attestors = await plugins.make('WorkloadAttestor', workloadAttestors, { min: 1, max: 64 })
  await plugins.make('SVIDStore', {}, { min: 0, max: 64 })
  return {
    keyManager,
    nodeAttestor: joinToken === undefined ? configured : joinTokenAttestor(joinToken),
    workloadAttestors: attestors.map(([, attestor]) => attestor),
  }
}
