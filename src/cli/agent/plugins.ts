import type { AgentNodeAttestor, KeyManager, SvidStore, WorkloadAttestor } from '../../core/plugin.ts'
import { joinTokenAttestor } from '../../plugins/nodeattestor/join_token/agent.ts'
import type { AgentHost } from '../../plugins/plugin.ts'
import type { PluginSet } from '../plugin-set.ts'

export interface AgentPlugins {
  readonly keyManager: KeyManager
  readonly nodeAttestor: AgentNodeAttestor
  readonly workloadAttestors: readonly WorkloadAttestor[]
  /** By name. */
  readonly svidStores: ReadonlyMap<string, SvidStore>
}

/**
 * Makes the plugins of an agent configuration.
 * @param joinToken replaces the configured node attestor, as in SPIRE
 * @throws CommandError with SPIRE's texts
 */
export async function makeAgentPlugins(
  plugins: PluginSet<'agent'>,
  joinToken: string | undefined,
  host: AgentHost,
): Promise<AgentPlugins> {
  const [[, keyManager]] = (await plugins.make('KeyManager', host)) as [[string, KeyManager]]
  const [[, configured]] = (await plugins.make('NodeAttestor', host)) as [[string, AgentNodeAttestor]]
  const attestors = await plugins.make('WorkloadAttestor', host)
  const stores = await plugins.make('SVIDStore', host)
  return {
    keyManager,
    nodeAttestor: joinToken === undefined ? configured : joinTokenAttestor(joinToken),
    svidStores: new Map(stores),
    workloadAttestors: attestors.map(([, attestor]) => attestor),
  }
}
