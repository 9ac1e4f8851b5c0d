import type { PluginConfig } from '../../config/plugins.ts'
import type { Certificate } from '../../core/certificate.ts'
import type { Clock } from '../../core/clock.ts'
import type { Log } from '../../core/log.ts'
import type { KeyManager, NodeAttestor, UpstreamAuthority } from '../../core/plugin.ts'
import type { VerifySignature } from '../../core/public-key.ts'
import type { Store } from '../../core/store.ts'
import type { TrustDomain } from '../../core/trust-domain.ts'
import { configureX509Pop } from '../../plugins/nodeattestor/x509pop-config.ts'
import { diskUpstreamAuthority } from '../../plugins/upstreamauthority/disk.ts'
import { type PluginMakers, PluginSet, textOf } from '../plugin-set.ts'
import { type DataStore, openDataStore } from './data-store.ts'
import { keyManagers } from './key-managers.ts'
import { readUpstreamSpire } from './upstream-spire-config.ts'

/** What plugins get from the server around them. */
export interface PluginEnvironment {
  readonly trustDomain: TrustDomain
  /** Of the server. */
  readonly dataDir: string
  /** The roots of the own bundle at this moment. */
  readonly roots: () => Promise<readonly Certificate[]>
  readonly clock: Clock
  readonly random: (bytes: Uint8Array) => Uint8Array
  readonly verify: VerifySignature
  readonly log: Log
  /** Aborts when the server stops. */
  readonly signal: AbortSignal
  /** Variables of the process: clients of cloud services look there. */
  readonly env: Readonly<Record<string, string | undefined>>
}

export interface ServerPlugins {
  readonly store: Store
  /** Other servers may write there, too. */
  readonly storeShared: boolean
  readonly keyManager: KeyManager
  readonly nodeAttestors: ReadonlyMap<string, NodeAttestor>
  readonly upstream: UpstreamAuthority | undefined
}

const TYPES = [
  'DataStore',
  'KeyManager',
  'NodeAttestor',
  'UpstreamAuthority',
  'Notifier',
  'BundlePublisher',
  'CredentialComposer',
]

/** The attestor of join tokens is part of the server; the name stands for its being allowed. */
const JOIN_TOKEN = 'join_token'

/** Makes the plugins of a server configuration. @throws CommandError with SPIRE's texts */
export async function makeServerPlugins(
  configs: readonly PluginConfig[],
  environment: PluginEnvironment,
): Promise<ServerPlugins> {
  const plugins = new PluginSet(configs, TYPES)
  const [[, { store, shared }]] = (await plugins.make(
    'DataStore',
    { sql: (data) => openDataStore(data, environment) },
    { min: 1, max: 1 },
  )) as [[string, DataStore]]
  const [[, keyManager]] = (await plugins.make('KeyManager', keyManagers({ ...environment, keys: store.keys }), {
    min: 1,
    max: 1,
  })) as [[string, KeyManager]]
  const attestors = await plugins.make<NodeAttestor | undefined>('NodeAttestor', nodeAttestors(environment), {
    min: 0,
    max: 64,
  })
  const upstreams = await plugins.make('UpstreamAuthority', upstreamAuthorities(environment), { min: 0, max: 1 })
  for (const type of ['Notifier', 'BundlePublisher', 'CredentialComposer'])
    await plugins.make(type, {}, { min: 0, max: 64 })
  return {
    store,
    storeShared: shared,
    keyManager,
    nodeAttestors: new Map(attestors.filter((pair): pair is [string, NodeAttestor] => pair[1] !== undefined)),
    upstream: upstreams[0]?.[1],
  }
}

function nodeAttestors(environment: PluginEnvironment): PluginMakers<NodeAttestor | undefined> {
  return {
    [JOIN_TOKEN]: () => undefined,
    x509pop: (data) => configureX509Pop(data, environment),
  }
}

function upstreamAuthorities(environment: PluginEnvironment): PluginMakers<UpstreamAuthority> {
  return {
    disk(data) {
      const certFilePath = textOf(data, 'cert_file_path')
      const keyFilePath = textOf(data, 'key_file_path')
      if (certFilePath === '' || keyFilePath === '') {
        throw new Error("'cert_file_path' and 'key_file_path' must be set and not empty")
      }
      return diskUpstreamAuthority({
        ...environment,
        certFilePath,
        keyFilePath,
        bundleFilePath: textOf(data, 'bundle_file_path'),
      })
    },
    async spire(data) {
      const config = readUpstreamSpire(data, environment.trustDomain, environment.dataDir)
      const { connectUpstreamSpire } = await import('./upstream-spire.ts')
      return connectUpstreamSpire({ ...config, ...environment })
    },
  }
}
