import type { ServerOptions } from '../../config/server.ts'
import type { Log } from '../../core/log.ts'
import type {
  BundlePublisher,
  CredentialComposer,
  KeyManager,
  NodeAttestor,
  Notifier,
  UpstreamAuthority,
} from '../../core/plugin.ts'
import type { Store } from '../../core/store.ts'
import type { DataStore, ServerHost } from '../../plugins/plugin.ts'
import type { ExternalHost } from '../external-plugins.ts'
import { PluginSet } from '../plugin-set.ts'
import type { PluginServices } from './plugin-services.ts'

export interface ServerPlugins {
  readonly store: Store
  /** Other servers may write there, too. */
  readonly storeShared: boolean
  readonly keyManager: KeyManager
  readonly nodeAttestors: ReadonlyMap<string, NodeAttestor>
  readonly upstream: UpstreamAuthority | undefined
  readonly notifiers: readonly Notifier[]
  readonly bundlePublishers: readonly BundlePublisher[]
  /** In the order of the file. */
  readonly credentialComposers: readonly CredentialComposer[]
}

/**
 * The plugins that a server's configuration names. What those out of process are lent is loaded when the first of them starts.
 * @param lent the server, once it is there
 */
export function serverPluginSet(
  { trustDomain, plugins }: Pick<ServerOptions, 'trustDomain' | 'plugins'>,
  lent: PluginServices,
  env: ExternalHost['env'],
  log: Log,
): PluginSet<'server'> {
  const externalHost = async (): Promise<ExternalHost> => {
    const [{ hostServices }, { SERVER_PLUGIN_METHODS }] = await Promise.all([
      import('../host-services.ts'),
      import('./plugin-services.ts'),
    ])
    return { trustDomain, hostServices: hostServices(SERVER_PLUGIN_METHODS, lent, log), env, log }
  }
  return new PluginSet('server', plugins, externalHost, log)
}

/** Makes the plugins of a server configuration. @throws CommandError with SPIRE's texts */
export async function makeServerPlugins(plugins: PluginSet<'server'>, host: ServerHost): Promise<ServerPlugins> {
  const [[, { store, shared }]] = (await plugins.make('DataStore', host)) as [[string, DataStore]]
  const [[, keyManager]] = (await plugins.make('KeyManager', { ...host, keys: store.keys })) as [[string, KeyManager]]
  const attestors = await plugins.make('NodeAttestor', host)
  const [upstream] = await plugins.make('UpstreamAuthority', host)
  const composers = await plugins.make('CredentialComposer', host)
  const notifiers = await plugins.make('Notifier', host)
  const publishers = await plugins.make('BundlePublisher', host)
  return {
    store,
    storeShared: shared,
    keyManager,
    nodeAttestors: new Map(attestors.filter((pair): pair is [string, NodeAttestor] => pair[1] !== undefined)),
    upstream: upstream?.[1],
    notifiers: notifiers.map(([, notifier]) => notifier),
    bundlePublishers: publishers.map(([, publisher]) => publisher),
    credentialComposers: composers.map(([, composer]) => composer),
  }
}
