import type { PlainObject } from '../config/plain.ts'
import type { Log } from '../core/log.ts'
import type { TrustDomain } from '../core/trust-domain.ts'
import type { HostServices } from './host-services.ts'
import type { Implementation, PluginKind } from './kinds.ts'

/** What the host's configuration says of the plugin. */
export interface GivenConfiguration {
  /** `plugin_data`, HCL or JSON, as plain values. */
  readonly data: PlainObject
  /** The same as text. */
  readonly text: string
  /** Of the server or agent. */
  readonly trustDomain: TrustDomain
}

/** What the host lends a plugin. */
export interface PluginHost extends HostServices {
  /** Lines reach the host's log, with their fields. */
  readonly log: Log
  /** Aborts when the plugin is unloaded or the host is gone. */
  readonly signal: AbortSignal
}

/** A plugin as a program. */
export interface PluginProgram<K extends PluginKind, Config> {
  /** Side and type, `agent/WorkloadAttestor`. */
  readonly kind: K
  /**
   * Reads the configuration and reaches nothing: `validate` of the host asks for it, too. What it throws without a code reaches the host as
   * INVALID_ARGUMENT. Absent: the plugin takes no `plugin_data`, and a host refuses any.
   */
  readonly read?: (given: GivenConfiguration) => Config | Promise<Config>
  /** What is odd in a configuration that can be read; only `validate` tells. */
  readonly notes?: (given: GivenConfiguration) => readonly string[] | Promise<readonly string[]>
  /**
   * Makes what serves from then on. Called again when the host has another configuration; if that fails, the one before serves on.
   */
  readonly make: (config: Config, host: PluginHost) => Implementation<K> | Promise<Implementation<K>>
}
