import type { AgentKinds, HostOf, Kind, Kinds, PluginOf, ServerKinds, Side } from '../plugin.ts'
import type { ExternalPlugin } from './plugin.ts'

/** How a plugin out of process becomes one of our own. */
export interface ExternalKind<Plugin, Host> {
  /** The gRPC service that the plugin must have. */
  readonly service: string
  of(plugin: ExternalPlugin, host: Host): Promise<Plugin>
}

type ExternalKinds = {
  readonly server: { readonly [K in keyof ServerKinds]?: ExternalKind<PluginOf<'server', K>, HostOf<'server', K>> }
  readonly agent: { readonly [K in keyof AgentKinds]?: ExternalKind<PluginOf<'agent', K>, HostOf<'agent', K>> }
}

/** All kinds of plugins that may run out of process, a row each. @see cli-and-config.md 12.3 */
const KINDS: ExternalKinds = {
  server: {
    KeyManager: {
      service: 'spire.plugin.server.keymanager.v1.KeyManager',
      of: async ({ calls }) => (await import('./keymanager.ts')).externalKeyManager(calls),
    },
    NodeAttestor: {
      service: 'spire.plugin.server.nodeattestor.v1.NodeAttestor',
      async of({ name, plainCalls }, { random }) {
        const { externalNodeAttestor } = await import('./nodeattestor-server.ts')
        return externalNodeAttestor({ name, calls: plainCalls, random })
      },
    },
    UpstreamAuthority: {
      service: 'spire.plugin.server.upstreamauthority.v1.UpstreamAuthority',
      of: async ({ name, calls, log }) =>
        (await import('./upstreamauthority.ts')).externalUpstreamAuthority(name, calls, log),
    },
    Notifier: {
      service: 'spire.plugin.server.notifier.v1.Notifier',
      of: async ({ name, calls }) => (await import('./notifier.ts')).externalNotifier(name, calls),
    },
    BundlePublisher: {
      service: 'spire.plugin.server.bundlepublisher.v1.BundlePublisher',
      of: async ({ name, calls }) => (await import('./bundlepublisher.ts')).externalBundlePublisher(name, calls),
    },
    CredentialComposer: {
      service: 'spire.plugin.server.credentialcomposer.v1.CredentialComposer',
      of: async ({ name, calls }) => (await import('./credentialcomposer.ts')).externalCredentialComposer(name, calls),
    },
  },
  // Its KeyManager is not here: the TLS of Node must have the key of an agent.
  agent: {
    NodeAttestor: {
      service: 'spire.plugin.agent.nodeattestor.v1.NodeAttestor',
      of: async ({ name, calls }) => (await import('./nodeattestor-agent.ts')).externalAgentNodeAttestor(name, calls),
    },
    SVIDStore: {
      service: 'spire.plugin.agent.svidstore.v1.SVIDStore',
      of: async ({ name, calls }) => (await import('./svidstore.ts')).externalSvidStore(name, calls),
    },
    WorkloadAttestor: {
      service: 'spire.plugin.agent.workloadattestor.v1.WorkloadAttestor',
      of: async ({ name, calls }) => (await import('./workloadattestor.ts')).externalWorkloadAttestor(name, calls),
    },
  },
}

/** undefined: plugins of that kind are always part of the program. */
export function externalKind<S extends Side, K extends keyof Kinds[S] & Kind>(
  side: S,
  kind: K,
): ExternalKind<PluginOf<S, K>, HostOf<S, K>> | undefined {
  return (KINDS[side] as Partial<Record<Kind, unknown>>)[kind] as ExternalKind<PluginOf<S, K>, HostOf<S, K>> | undefined
}
