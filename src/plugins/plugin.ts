import type { PlainObject } from '../config/plain.ts'
import type { Certificate } from '../core/certificate.ts'
import type { Clock } from '../core/clock.ts'
import type { Log } from '../core/log.ts'
import type {
  AgentNodeAttestor,
  BundlePublisher,
  CredentialComposer,
  KeyManager,
  NodeAttestor,
  Notifier,
  SvidStore,
  UpstreamAuthority,
  WorkloadAttestor,
} from '../core/plugin.ts'
import type { VerifySignature } from '../core/public-key.ts'
import type { Store, WrappedKeyStore } from '../core/store.ts'
import type { TrustDomain } from '../core/trust-domain.ts'
import type { UpstreamSpireConfig } from './upstreamauthority/spire/config.ts'
import type { UpstreamServer } from './upstreamauthority/spire/spire.ts'

/** What the reader of a configuration may know besides it. */
export interface ReadHost {
  readonly trustDomain: TrustDomain
  /** Of the server or agent. */
  readonly dataDir: string
}

/** What a plugin may know that looks at what its configuration names. */
export interface PreviewHost extends ReadHost {
  readonly clock: Clock
  readonly verify: VerifySignature
}

/** What a server lends its plugins. A plugin's maker names the parts that it needs. */
export interface ServerHost extends ReadHost {
  /** The roots of the own bundle at this moment. */
  readonly roots: () => Promise<readonly Certificate[]>
  readonly clock: Clock
  readonly random: (bytes: Uint8Array) => Uint8Array
  readonly verify: VerifySignature
  readonly log: Log
  /** Aborts when the server stops. */
  readonly signal: AbortSignal
  /** Resolves after that time, or at once when the signal aborts. */
  readonly wait: (ms: number, signal: AbortSignal) => Promise<void>
  /** Variables of the process: clients of cloud services look there. */
  readonly env: Readonly<Record<string, string | undefined>>
  /** Calls to a server above. */
  readonly connectUpstream: (config: UpstreamSpireConfig) => Promise<UpstreamServer>
}

/** What an agent lends its plugins. */
export interface AgentHost extends ReadHost {
  /** Variables of the process. */
  readonly env: Readonly<Record<string, string | undefined>>
}

export interface DataStore {
  readonly store: Store
  /** Other servers may write there, too: what is kept in memory has to follow the change log. */
  readonly shared: boolean
}

/** What each kind of plugin is for a server, and what its maker is lent. */
export interface ServerKinds {
  DataStore: { readonly plugin: DataStore; readonly host: ServerHost }
  KeyManager: {
    readonly plugin: KeyManager
    /** `keys` are of the server's database. */
    readonly host: ServerHost & { readonly keys: WrappedKeyStore }
  }
  /** undefined: the attestor is part of the server, and its name says that it may be used. */
  NodeAttestor: { readonly plugin: NodeAttestor | undefined; readonly host: ServerHost }
  UpstreamAuthority: { readonly plugin: UpstreamAuthority; readonly host: ServerHost }
  Notifier: { readonly plugin: Notifier; readonly host: ServerHost }
  BundlePublisher: { readonly plugin: BundlePublisher; readonly host: ServerHost }
  CredentialComposer: { readonly plugin: CredentialComposer; readonly host: ServerHost }
}

/** The same for an agent. */
export interface AgentKinds {
  KeyManager: { readonly plugin: KeyManager; readonly host: AgentHost }
  NodeAttestor: { readonly plugin: AgentNodeAttestor; readonly host: AgentHost }
  WorkloadAttestor: { readonly plugin: WorkloadAttestor; readonly host: AgentHost }
  SVIDStore: { readonly plugin: SvidStore; readonly host: AgentHost }
}

/** The kinds of either side. */
export interface Kinds {
  readonly server: ServerKinds
  readonly agent: AgentKinds
}
export type Side = keyof Kinds
export type Kind = keyof ServerKinds | keyof AgentKinds
export type PluginOf<S extends Side, K extends keyof Kinds[S]> = Kinds[S][K] extends { readonly plugin: infer P }
  ? P
  : never
export type HostOf<S extends Side, K extends keyof Kinds[S]> = Kinds[S][K] extends { readonly host: infer H }
  ? H
  : never

/** A plugin in a server or in an agent. */
export interface Half<Plugin, Host> {
  /** The keys of `plugin_data` that are read; in blocks with a dot, `token_auth.token`, and `*` for a name that the user chooses. */
  readonly keys: readonly string[]
  /**
   * Reads `plugin_data` and reaches nothing.
   * @returns what is odd and harms nothing
   * @throws ConfigProblems, or Error with one problem, in SPIRE's words
   */
  check(data: PlainObject, host: ReadHost): Promise<readonly string[]>
  /**
   * Looks at what the configuration names on this machine, and changes nothing: what is wrong there ends a start before anything is made.
   * @throws as `check`, and Error
   */
  preview(data: PlainObject, host: PreviewHost): Promise<void>
  /** @throws as `check`, and Error if the plugin cannot work */
  make(data: PlainObject, host: Host): Promise<Plugin>
}

/** Joins a reader of `plugin_data` to the maker of a plugin. */
export function half<Config, Plugin, Host extends ReadHost>(parts: {
  readonly keys: readonly string[]
  readonly read: (data: PlainObject, host: ReadHost) => Config | Promise<Config>
  readonly make: (config: Config, host: Host) => Plugin | Promise<Plugin>
  readonly odd?: (data: PlainObject) => readonly string[]
  readonly preview?: (config: Config, host: PreviewHost) => Promise<unknown>
}): Half<Plugin, Host> {
  const { keys, read, make, odd, preview } = parts
  return {
    keys,
    async check(data, host) {
      await read(data, host)
      return odd?.(data) ?? []
    },
    async preview(data, host) {
      await preview?.(await read(data, host), host)
    },
    make: async (data, host) => make(await read(data, host), host),
  }
}

/** All that the file of a plugin says of it. Absent halves are no plugins there. */
export interface PluginDeclaration<K extends Kind> {
  readonly server?: K extends keyof ServerKinds ? Half<PluginOf<'server', K>, HostOf<'server', K>> : never
  readonly agent?: K extends keyof AgentKinds ? Half<PluginOf<'agent', K>, HostOf<'agent', K>> : never
}

/** Several things that are wrong with one configuration. */
export class ConfigProblems extends Error {
  readonly problems: readonly string[]

  constructor(problems: readonly string[]) {
    super(problems[0])
    this.problems = problems
  }
}
