import { decodeObject, merged } from './decode.ts'
import { ConfigError, type HclItem, type HclObject } from './hcl.ts'

/** One plugin of a configuration file. */
export interface PluginConfig {
  readonly type: string
  readonly name: string
  /** undefined: none was given. */
  readonly data: HclObject | undefined
  readonly dataFile: string | undefined
  readonly command: string | undefined
  readonly arguments: readonly string[]
  readonly checksum: string | undefined
  readonly enabled: boolean
  /** Of the configuration, from 1. */
  readonly line: number
}

const FIELDS = {
  plugin_cmd: 'string',
  plugin_args: 'strings',
  plugin_checksum: 'string',
  plugin_data: 'any',
  plugin_data_file: 'string',
  enabled: 'bool',
} as const

/**
 * Reads the `plugins` section in the order of the file: `Type "name" { }`, `Type { name { } }`, or the same as JSON.
 * @throws ConfigError with SPIRE's texts
 */
export function readPlugins(section: readonly HclItem[]): PluginConfig[] {
  const plugins: PluginConfig[] = []
  for (const item of merged(section, 'root.plugins').items) {
    const type = item.keys[0]!.text
    const named = merged([item], `root.plugins.${type}`)
    for (const one of named.items) plugins.push(readPlugin(type, one))
  }
  const seen = new Set<string>()
  for (const { type, name } of plugins) {
    const key = `"${type}"/"${name}"`
    if (seen.has(key)) throw new ConfigError(`plugin ${key} declared more than once`)
    seen.add(key)
  }
  return plugins
}

function readPlugin(type: string, item: HclItem): PluginConfig {
  const name = item.keys[0]!.text
  const path = `root.plugins.${type}.${name}`
  const fields = decodeObject(merged([item], path), FIELDS, { path })
  if (fields.plugin_data && fields.plugin_data_file) {
    throw new ConfigError(
      `failed to create plugin config for "${type}"/"${name}": only one of [plugin_data, plugin_data_file] can be used`,
    )
  }
  return {
    type,
    name,
    data: fields.plugin_data && merged(fields.plugin_data, `${path}.plugin_data`),
    dataFile: fields.plugin_data_file,
    command: fields.plugin_cmd,
    arguments: fields.plugin_args ?? [],
    checksum: fields.plugin_checksum,
    enabled: fields.enabled ?? true,
    line: item.keys[0]!.position.line,
  }
}
