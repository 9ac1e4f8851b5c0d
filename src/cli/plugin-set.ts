import { readFileSync } from 'node:fs'
import { parseHcl } from '../config/hcl.ts'
import { hintOfPluginType } from '../config/old-words.ts'
import { type PlainObject, plainObject } from '../config/plain.ts'
import type { PluginConfig } from '../config/plugins.ts'
import { errorMessage, StatusError } from '../core/error.ts'
import { CommandError, rpcErrorText } from './failure.ts'

/** How many plugins of one type a configuration may have. */
export interface Cardinality {
  readonly min: number
  readonly max: number
}

/** Makes one kind of plugin by its name in the configuration. */
export type PluginMakers<T> = Readonly<Record<string, (data: PlainObject) => T | Promise<T>>>

/** The enabled plugins of a configuration, type by type, checked to be of known types. */
export class PluginSet {
  readonly #plugins: readonly PluginConfig[]

  /** @throws CommandError for a type that is not among `types` */
  constructor(plugins: readonly PluginConfig[], types: readonly string[]) {
    for (const { type } of plugins) {
      if (!types.includes(type)) throw unsupportedType(type)
    }
    this.#plugins = plugins.filter((plugin) => plugin.enabled)
  }

  /**
   * Makes all plugins of a type, in the order of the file.
   * @throws CommandError with SPIRE's texts: unknown name, wrong number, refused configuration
   */
  async make<T>(
    type: string,
    makers: PluginMakers<T>,
    { min, max }: Cardinality,
  ): Promise<readonly (readonly [name: string, plugin: T])[]> {
    const chosen = this.#plugins.filter((plugin) => plugin.type === type)
    if (chosen.length < min || chosen.length > max) {
      const expected = min === max ? `exactly ${min}` : chosen.length < min ? `at least ${min}` : `at most ${max}`
      throw new CommandError(
        `plugin type ${JSON.stringify(type)} constraint not satisfied: expected ${expected} but got ${chosen.length}`,
      )
    }
    const made: (readonly [string, T])[] = []
    for (const plugin of chosen) made.push([plugin.name, await makeOne(plugin, makers)])
    return made
  }
}

/** SPIRE's words for a type of plugin that there is none of. */
export function unsupportedType(type: string): CommandError {
  const hint = hintOfPluginType(type)
  return new CommandError(`unsupported plugin type ${JSON.stringify(type)}`, {
    hints: hint === undefined ? [] : [hint],
  })
}

async function makeOne<T>(plugin: PluginConfig, makers: PluginMakers<T>): Promise<T> {
  const { type, name } = plugin
  refuseExternal(plugin)
  const maker = Object.hasOwn(makers, name) ? makers[name] : undefined
  if (!maker) {
    throw new CommandError(
      `failed to load plugin ${JSON.stringify(name)}: no built-in plugin ${JSON.stringify(name)} for type ${JSON.stringify(type)}`,
    )
  }
  try {
    return await maker(dataOf(plugin))
  } catch (error) {
    // Some checks throw a StatusError with a code of their own, all others mean that the configuration is at fault.
    const status = error instanceof StatusError ? error : new StatusError('INVALID_ARGUMENT', errorMessage(error))
    throw new CommandError(`failed to configure plugin ${JSON.stringify(name)}: ${rpcErrorText(status)}`, {
      cause: error,
    })
  }
}

/** @throws CommandError for a plugin that is a program of its own */
export function refuseExternal({ name, command }: PluginConfig): void {
  if (command === undefined) return
  throw new CommandError(
    `failed to load plugin ${JSON.stringify(name)}: external plugins (plugin_cmd) are not supported by this version`,
  )
}

/** What a plugin is told, wherever it is written. @throws Error if its file cannot be read */
export function dataOf({ data, dataFile }: PluginConfig): PlainObject {
  if (dataFile === undefined) return plainObject(data)
  try {
    return plainObject(parseHcl(readFileSync(dataFile, 'utf8')))
  } catch (error) {
    throw new Error(`failed to read plugin configuration: ${errorMessage(error)}`, { cause: error })
  }
}

/** A string of `plugin_data`; empty if it is absent. @throws Error if it is something else */
export function textOf(data: PlainObject, key: string): string {
  const value = data[key]
  if (value === undefined) return ''
  if (typeof value === 'string') return value
  if (typeof value === 'number') return String(value)
  throw new Error(`unable to decode configuration: ${key} is not a string`)
}

/** Refuses data for a plugin that takes none. */
export function withoutData(data: PlainObject): void {
  if (Object.keys(data).length > 0) throw new Error('no supported configuration interface found')
}
