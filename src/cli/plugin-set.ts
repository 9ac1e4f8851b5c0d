import { readFileSync } from 'node:fs'
import { parseHcl } from '../config/hcl.ts'
import { hintOfPluginType } from '../config/old-words.ts'
import { type PlainObject, plainObject } from '../config/plain.ts'
import type { PluginConfig } from '../config/plugins.ts'
import { errorMessage, StatusError } from '../core/error.ts'
import { silentLog } from '../core/log.ts'
import {
  ConfigProblems,
  type Half,
  type HostOf,
  type Kind,
  type Kinds,
  type PluginDeclaration,
  type PluginOf,
  type PreviewHost,
  type ReadHost,
  type Side,
} from '../plugins/plugin.ts'
import { AGENT_CARDINALITIES, type Cardinality, REGISTRY, SERVER_CARDINALITIES } from '../plugins/registry.ts'
import { rpcErrorText } from '../rpc/status-text.ts'
import { CatalogLog } from './catalog-log.ts'
import type { ExternalHost, ExternalPlugins } from './external-plugins.ts'
import { CommandError } from './failure.ts'
import type { HealthCheck } from './health-listener.ts'
import { nearNames } from './near-names.ts'

const CARDINALITIES: { readonly [S in Side]: Readonly<Record<string, Cardinality>> } = {
  server: SERVER_CARDINALITIES,
  agent: AGENT_CARDINALITIES,
}

/** What is wrong with a plugin, or with the number of plugins of its kind. */
export interface PluginProblem {
  readonly kind: string
  /** undefined: there are too many of the kind, or too few. */
  readonly name: string | undefined
  readonly notes: readonly PluginNote[]
}

export interface PluginNote {
  readonly text: string
  /** Of the configuration, from 1; undefined where no line is at fault. */
  readonly line: number | undefined
  /** Harms nothing. */
  readonly odd: boolean
}

/** The enabled plugins of a configuration, for one side. */
export class PluginSet<S extends Side> {
  readonly #side: S
  readonly #plugins: readonly PluginConfig[]
  readonly #catalog: CatalogLog
  readonly #externalHost: () => Promise<ExternalHost>
  #external: ExternalPlugins<S> | undefined

  /**
   * @param externalHost asked when the first plugin out of process is started
   * @param log told of each plugin that is made
   * @throws CommandError for a kind that this side has not
   */
  constructor(side: S, configs: readonly PluginConfig[], externalHost: () => Promise<ExternalHost>, log = silentLog) {
    this.#side = side
    this.#externalHost = externalHost
    this.#catalog = new CatalogLog(log)
    this.#plugins = configs.filter((config) => config.enabled)
    for (const { type } of configs) {
      if (!Object.hasOwn(CARDINALITIES[side], type)) throw unsupportedType(type)
    }
  }

  /**
   * Looks at all plugins without making them. Those out of process say themselves what is wrong: they are started for it, if they are asked.
   * @throws CommandError for names that there are none of, and for a plugin that does not start
   */
  async check(host: ReadHost, external: 'ask' | 'skip'): Promise<readonly PluginProblem[]> {
    const problems: PluginProblem[] = []
    for (const config of this.#plugins) {
      if (config.command !== undefined) {
        if (external === 'skip') continue
        const texts = await (await this.#externals()).validate(config.type as keyof Kinds[S] & Kind, config)
        const notes = texts.map((text) => ({ text, line: config.line, odd: false }))
        if (notes.length > 0) problems.push({ kind: config.type, name: config.name, notes })
        continue
      }
      const half = await halfOf(this.#side, config)
      const notes = await notesOf(config, () => half.check(dataOf(config), host))
      if (notes.length > 0) problems.push({ kind: config.type, name: config.name, notes })
    }
    for (const kind of Object.keys(CARDINALITIES[this.#side])) {
      const text = this.#wrongNumber(kind)
      if (text !== undefined) problems.push({ kind, name: undefined, notes: [{ text, line: undefined, odd: false }] })
    }
    return problems
  }

  /** What is wrong with what the plugins name on this machine, a sentence each. Nothing is changed, and those out of process are not asked. */
  async preview(host: PreviewHost): Promise<readonly string[]> {
    const problems: string[] = []
    for (const config of this.#plugins) {
      if (config.command !== undefined) continue
      const half = await halfOf(this.#side, config)
      try {
        await half.preview(dataOf(config), host)
      } catch (error) {
        problems.push(notConfigured(config, error).message)
      }
    }
    return problems
  }

  /**
   * Makes all plugins of a kind, in the order of the file.
   * @throws CommandError with SPIRE's texts: unknown name, wrong number, refused configuration
   */
  async make<K extends keyof Kinds[S] & Kind>(
    kind: K,
    host: HostOf<S, K>,
  ): Promise<readonly (readonly [name: string, plugin: PluginOf<S, K>])[]> {
    const wrong = this.#wrongNumber(kind)
    if (wrong !== undefined) throw new CommandError(`plugin type ${JSON.stringify(kind)} ${wrong}`)
    const made: (readonly [string, PluginOf<S, K>])[] = []
    for (const config of this.#plugins) {
      if (config.type !== kind) continue
      if (config.command !== undefined) {
        made.push([config.name, await (await this.#externals()).make(kind, config, host)])
        continue
      }
      const half = (await halfOf(this.#side, config)) as Half<PluginOf<S, K>, HostOf<S, K>>
      try {
        made.push([config.name, await half.make(dataOf(config), host)])
        this.#catalog.loaded({ type: kind, name: config.name, configured: half.keys.length > 0 })
      } catch (error) {
        throw notConfigured(config, error)
      }
    }
    return made
  }

  get hasExternal(): boolean {
    return this.#plugins.some(({ command }) => command !== undefined)
  }

  /** Configures plugins out of process anew whose configuration has changed on disk. */
  async reconfigure(): Promise<void> {
    await this.#external?.reconfigure()
  }

  /** Plugins out of process that have died, each with the reason. */
  dead(): Readonly<Record<string, string>> {
    return this.#external?.dead() ?? {}
  }

  /** Ends plugins out of process, the last one first. */
  async close(): Promise<void> {
    await this.#catalog.closing(async () => this.#external?.close())
  }

  async #externals(): Promise<ExternalPlugins<S>> {
    if (this.#external === undefined) {
      const { ExternalPlugins } = await import('./external-plugins.ts')
      this.#external = new ExternalPlugins(this.#side, await this.#externalHost())
    }
    return this.#external
  }

  #wrongNumber(kind: string): string | undefined {
    const { min, max } = CARDINALITIES[this.#side][kind]!
    const count = this.#plugins.filter(({ type }) => type === kind).length
    if (count >= min && count <= max) return undefined
    const expected = min === max ? `exactly ${min}` : count < min ? `at least ${min}` : `at most ${max}`
    return `constraint not satisfied: expected ${expected} but got ${count}`
  }
}

/** Plugins out of process that have died make it unhealthy, by name: they are not started again. No check without such plugins. */
export function pluginHealthChecks(plugins: PluginSet<Side>): readonly HealthCheck[] {
  if (!plugins.hasExternal) return []
  return [
    {
      name: 'catalog.plugins',
      async check() {
        const details = plugins.dead()
        const healthy = Object.keys(details).length === 0
        return { live: healthy, ready: healthy, details }
      },
    },
  ]
}

/**
 * Ends a start before anything is made if a plugin cannot be.
 * @throws CommandError with SPIRE's texts
 */
export async function requireUsablePlugins<S extends Side>(plugins: PluginSet<S>, host: PreviewHost): Promise<void> {
  for (const { kind, name, notes } of await plugins.check(host, 'skip')) {
    const note = notes.find(({ odd }) => !odd)
    if (note === undefined) continue
    if (name === undefined) throw new CommandError(`plugin type ${JSON.stringify(kind)} ${note.text}`)
    // SPIRE's database is no plugin of its catalog, and has words of its own.
    const refused =
      kind === 'DataStore'
        ? `datastore-${name}: `
        : `failed to configure plugin ${JSON.stringify(name)}: rpc error: code = InvalidArgument desc = `
    throw new CommandError(`${refused}${note.text}`, {
      hints: note.line === undefined ? [] : [`see ${kind} ${JSON.stringify(name)}, line ${note.line}`],
    })
  }
  const [problem] = await plugins.preview(host)
  if (problem !== undefined) throw new CommandError(problem)
}

/** SPIRE's words for a kind of plugin that there is none of. */
function unsupportedType(type: string): CommandError {
  const hint = hintOfPluginType(type)
  return new CommandError(`unsupported plugin type ${JSON.stringify(type)}`, {
    hints: hint === undefined ? [] : [hint],
  })
}

/** Loads the half of a built-in plugin. @throws CommandError if there is none of that name */
async function halfOf(side: Side, { type, name }: PluginConfig): Promise<Half<unknown, unknown>> {
  const known: Readonly<Record<string, () => Promise<{ readonly default: PluginDeclaration<Kind> }>>> =
    REGISTRY[type as Kind]
  const half = Object.hasOwn(known, name) ? (await known[name]!()).default[side] : undefined
  if (half !== undefined) return half as Half<unknown, unknown>
  const names = Object.keys(known)
  const near = nearNames(name, names).map((one) => JSON.stringify(one))
  throw new CommandError(
    `failed to load plugin ${JSON.stringify(name)}: no built-in plugin ${JSON.stringify(name)} for type ${JSON.stringify(type)}`,
    {
      hints: [
        ...(near.length > 0 ? [`did you mean ${near.join(' or ')}?`] : []),
        names.length > 0 ? `${type} has ${names.join(', ')}` : `this version has no ${type}`,
      ],
    },
  )
}

/** What a plugin is told, wherever it is written. @throws Error if its file cannot be read */
function dataOf({ data, dataFile }: PluginConfig): PlainObject {
  if (dataFile === undefined) return plainObject(data)
  try {
    return plainObject(parseHcl(readFileSync(dataFile, 'utf8')))
  } catch (error) {
    throw new Error(`failed to read plugin configuration: ${errorMessage(error)}`, { cause: error })
  }
}

async function notesOf(config: PluginConfig, check: () => Promise<readonly string[]>): Promise<readonly PluginNote[]> {
  const note = (odd: boolean) => (text: string) => ({ text, line: lineOf(config, text), odd })
  try {
    return (await check()).map(note(true))
  } catch (error) {
    const problems = error instanceof ConfigProblems ? error.problems : [errorMessage(error)]
    return problems.map(note(false))
  }
}

/** Where the key is that a text names, else where the plugin is. */
function lineOf({ data, dataFile, line }: PluginConfig, text: string): number {
  if (dataFile !== undefined) return line
  const named = data?.items.find(({ keys: [key] }) => key !== undefined && text.includes(key.text))
  return named?.keys[0]?.position.line ?? line
}

function notConfigured({ name }: PluginConfig, error: unknown): CommandError {
  // Some checks throw a StatusError with a code of their own, all others mean that the configuration is at fault.
  const status = error instanceof StatusError ? error : new StatusError('INVALID_ARGUMENT', errorMessage(error))
  return new CommandError(`failed to configure plugin ${JSON.stringify(name)}: ${rpcErrorText(status)}`, {
    cause: error,
  })
}
