import { type PlainObject, plainObject } from '../../config/plain.ts'
import type { PluginConfig } from '../../config/plugins.ts'
import { errorMessage } from '../../core/error.ts'
import type { TrustDomain } from '../../core/trust-domain.ts'
import { CommandError } from '../failure.ts'
import { checkAwsKms, checkVault, kekSources } from './key-managers.ts'
import { readUpstreamSpire } from './upstream-spire-config.ts'

/** What is wrong with a plugin, or with the number of plugins of its type. */
export interface PluginProblem {
  /** `Type "name"`, or the bare type. */
  readonly plugin: string
  readonly problem: string
}

/** Throws what is wrong with a plugin's data, as far as it can be told from the text alone. */
type Check = (data: PlainObject, trustDomain: TrustDomain) => unknown

function requires(...keys: readonly string[]): Check {
  return (data) => {
    for (const key of keys) if (!isGiven(data, key)) throw new Error(`${key} is required`)
  }
}

function isGiven(data: PlainObject, key: string): boolean {
  return data[key] !== undefined && data[key] !== ''
}

const anything: Check = () => {}

/** Per type: how many there may be, and the plugins by name. */
const TYPES: Readonly<
  Record<string, { readonly min: number; readonly max: number; readonly plugins: Readonly<Record<string, Check>> }>
> = {
  DataStore: {
    min: 1,
    max: 1,
    plugins: {
      sql(data) {
        if (!isGiven(data, 'database_type')) throw new Error('database_type must be set')
        if (!isGiven(data, 'connection_string')) throw new Error('connection_string must be set')
      },
    },
  },
  KeyManager: {
    min: 1,
    max: 1,
    plugins: {
      memory: anything,
      disk: requires('keys_path'),
      database: kekSources,
      aws_kms: checkAwsKms,
      hashicorp_vault: checkVault,
    },
  },
  NodeAttestor: {
    min: 0,
    max: 64,
    plugins: {
      join_token: anything,
      x509pop(data) {
        const several = isGiven(data, 'ca_bundle_paths')
        if (data.mode === 'spiffe') return
        if (isGiven(data, 'ca_bundle_path') && several) {
          throw new Error('only one of ca_bundle_path or ca_bundle_paths can be configured, not both')
        }
        if (!isGiven(data, 'ca_bundle_path') && !several) {
          throw new Error('one of ca_bundle_path or ca_bundle_paths must be configured')
        }
      },
    },
  },
  UpstreamAuthority: {
    min: 0,
    max: 1,
    plugins: {
      disk(data) {
        if (!isGiven(data, 'cert_file_path') || !isGiven(data, 'key_file_path')) {
          throw new Error("'cert_file_path' and 'key_file_path' must be set and not empty")
        }
      },
      spire: (data, trustDomain) => readUpstreamSpire(data, trustDomain, '.'),
    },
  },
  Notifier: { min: 0, max: 64, plugins: {} },
  BundlePublisher: { min: 0, max: 64, plugins: {} },
  CredentialComposer: { min: 0, max: 64, plugins: {} },
}

/**
 * Looks at the plugins of a server configuration without making them.
 * @throws CommandError for types and names that there are none of
 */
export function checkServerPlugins(
  configs: readonly PluginConfig[],
  trustDomain: TrustDomain,
): readonly PluginProblem[] {
  const enabled = configs.filter((config) => config.enabled)
  const problems: PluginProblem[] = []
  for (const { type, name, data } of enabled) {
    const known = Object.hasOwn(TYPES, type) ? TYPES[type] : undefined
    if (!known) throw new CommandError(`unsupported plugin type ${JSON.stringify(type)}`)
    const check = Object.hasOwn(known.plugins, name) ? known.plugins[name] : undefined
    if (!check) {
      throw new CommandError(
        `failed to load plugin ${JSON.stringify(name)}: no built-in plugin ${JSON.stringify(name)} for type ${JSON.stringify(type)}`,
      )
    }
    try {
      check(plainObject(data), trustDomain)
    } catch (error) {
      problems.push({ plugin: `${type} ${JSON.stringify(name)}`, problem: errorMessage(error) })
    }
  }
  for (const [type, { min, max }] of Object.entries(TYPES)) {
    const count = enabled.filter((config) => config.type === type).length
    if (count >= min && count <= max) continue
    const expected = min === max ? `exactly ${min}` : count < min ? `at least ${min}` : `at most ${max}`
    problems.push({ plugin: type, problem: `constraint not satisfied: expected ${expected} but got ${count}` })
  }
  return problems
}
