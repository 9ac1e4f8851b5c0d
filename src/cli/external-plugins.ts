import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { hclText } from '../config/hcl-text.ts'
import type { PluginConfig } from '../config/plugins.ts'
import { errorMessage, StatusError } from '../core/error.ts'
import type { Log } from '../core/log.ts'
import type { TrustDomain } from '../core/trust-domain.ts'
import { externalKind } from '../plugins/external/kinds.ts'
import { type ExternalPlugin, loadExternalPlugin } from '../plugins/external/plugin.ts'
import type { HostOf, Kind, Kinds, PluginOf, Side } from '../plugins/plugin.ts'
import type { BoundService } from '../rpc/service.ts'
import { rpcErrorText } from '../rpc/status-text.ts'
import { CommandError } from './failure.ts'

/** What plugins out of process are lent, whatever their kind. */
export interface ExternalHost {
  readonly trustDomain: TrustDomain
  readonly hostServices: BoundService
  readonly env: Readonly<Record<string, string | undefined>>
  readonly log: Log
}

interface Loaded {
  readonly plugin: ExternalPlugin
  /** What is read again on demand; absent where the configuration cannot change. */
  readonly file?: string
  /** Of what it was configured with. */
  hash: string
}

/** The plugins out of process of a server or an agent. They are told to end in the reverse order of their start. */
export class ExternalPlugins<S extends Side> {
  readonly #side: S
  readonly #host: ExternalHost
  readonly #loaded: Loaded[] = []

  constructor(side: S, host: ExternalHost) {
    this.#side = side
    this.#host = host
  }

  /**
   * Starts and configures one.
   * @throws CommandError with SPIRE's texts; it has ended then
   */
  async make<K extends keyof Kinds[S] & Kind>(
    kind: K,
    config: PluginConfig,
    host: HostOf<S, K>,
  ): Promise<PluginOf<S, K>> {
    const { plugin, external } = await this.#load(kind, config)
    try {
      this.#loaded.push(await configured(plugin, config))
    } catch (error) {
      await plugin.unload()
      throw new CommandError(`failed to configure plugin ${JSON.stringify(config.name)}: ${textOf(error)}`, {
        cause: error,
      })
    }
    plugin.log.info('Plugin loaded')
    return external.of(plugin, host)
  }

  /**
   * Starts one, asks it what is wrong with its configuration, and has it end.
   * @throws CommandError if it cannot be started
   */
  async validate(kind: keyof Kinds[S] & Kind, config: PluginConfig): Promise<readonly string[]> {
    const { plugin } = await this.#load(kind, config)
    try {
      let text: string | undefined
      try {
        text = dataText(config)
      } catch (error) {
        return [`failed to read plugin configuration: ${errorMessage(error)}`]
      }
      return plugin.config ? await plugin.config.validate(text ?? '') : []
    } catch (error) {
      return [textOf(error)]
    } finally {
      await plugin.unload()
    }
  }

  /** Reads the files of their configurations again and configures those anew whose text has changed. */
  async reconfigure(): Promise<void> {
    for (const loaded of this.#loaded) {
      const { plugin, file, hash } = loaded
      if (file === undefined) continue
      try {
        const text = readFileSync(file, 'utf8')
        const next = hashOf(text)
        if (next === hash) {
          plugin.log.info('Plugin not reconfigured since the config is unchanged', { hash })
          continue
        }
        await plugin.config!.configure(text)
        loaded.hash = next
        plugin.log.info('Plugin reconfigured', { old_hash: hash, new_hash: next })
      } catch (error) {
        plugin.log.error('Failed to reconfigure plugin', { error: textOf(error) })
      }
    }
  }

  /** Those that have died, each with the reason. */
  dead(): Readonly<Record<string, string>> {
    return Object.fromEntries(
      this.#loaded
        .filter(({ plugin }) => plugin.ended.aborted)
        .map(({ plugin: { kind, name, ended } }) => [`${kind.toLowerCase()}(${name})`, errorMessage(ended.reason)]),
    )
  }

  async close(): Promise<void> {
    for (const { plugin } of this.#loaded.splice(0).reverse()) await plugin.unload()
  }

  async #load<K extends keyof Kinds[S] & Kind>(kind: K, config: PluginConfig) {
    const { name } = config
    const external = externalKind(this.#side, kind)
    if (external === undefined) {
      throw new CommandError(
        kind === 'DataStore'
          ? 'pluggability for the DataStore is deprecated; only the built-in "sql" plugin is supported'
          : `failed to load plugin ${JSON.stringify(name)}: a ${kind} cannot be a process of its own here`,
      )
    }
    const log = this.#host.log.child({ external: true, plugin_name: name, plugin_type: kind })
    let plugin: ExternalPlugin
    try {
      plugin = await loadExternalPlugin({ ...this.#host, ...config, kind, path: config.command!, log })
    } catch (error) {
      throw new CommandError(`failed to load plugin ${JSON.stringify(name)}: ${textOf(error)}`, { cause: error })
    }
    const { services } = plugin
    if (!services.includes(external.service)) {
      await plugin.unload()
      const found = services.map((service) => JSON.stringify(service)).join(' ')
      throw new CommandError(
        `failed to bind plugin ${JSON.stringify(name)}: no supported plugin interface found in: [${found}]`,
      )
    }
    for (const service of [...services].sort()) {
      if (service !== external.service) log.warn('Unsupported plugin service found', { plugin_service: service })
    }
    return { plugin, external }
  }
}

/** @throws StatusError as the plugin says it, Error if there is something to tell a plugin that takes nothing */
async function configured(plugin: ExternalPlugin, config: PluginConfig): Promise<Loaded> {
  let text: string | undefined
  try {
    text = dataText(config)
  } catch (error) {
    throw new Error(`failed to load plugin data: ${errorMessage(error)}`, { cause: error })
  }
  if (plugin.config === undefined) {
    if (text !== undefined) throw new Error('no supported configuration interface found')
    return { plugin, hash: '' }
  }
  await plugin.config.configure(text ?? '')
  const hash = hashOf(text ?? '')
  const file = config.dataFile
  plugin.log.info('Configured plugin', { reconfigurable: file !== undefined, ...(file === undefined ? {} : { hash }) })
  return { plugin, hash, ...(file === undefined ? {} : { file }) }
}

/** What a plugin is told; undefined: nothing. @throws Error if the file cannot be read */
function dataText({ data, dataFile }: PluginConfig): string | undefined {
  if (dataFile !== undefined) return readFileSync(dataFile, 'utf8')
  return data === undefined || data.items.length === 0 ? undefined : hclText(data)
}

/** As SPIRE's logs have it. */
function hashOf(text: string): string {
  return createHash('sha512').update(text).digest('hex').slice(0, 32)
}

function textOf(error: unknown): string {
  return error instanceof StatusError ? rpcErrorText(error) : errorMessage(error)
}
