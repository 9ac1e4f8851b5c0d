import type { PlainObject } from '../../config/plain.ts'
import type { PluginConfig } from '../../config/plugins.ts'
import { systemClock } from '../../core/clock.ts'
import { errorMessage } from '../../core/error.ts'
import type { TrustDomain } from '../../core/trust-domain.ts'
import { configureX509Pop } from '../../plugins/nodeattestor/x509pop-config.ts'
import { CommandError } from '../failure.ts'
import { dataOf, refuseExternal, textOf, unsupportedType } from '../plugin-set.ts'
import { readDataStore } from './data-store.ts'
import { checkAwsKms, checkVault, kekSources } from './key-managers.ts'
import { readUpstreamSpire } from './upstream-spire-config.ts'

/** What is wrong with a plugin, or with the number of plugins of its type. */
export interface PluginProblem {
  readonly type: string
  /** undefined: there are too many of the type, or too few. */
  readonly name: string | undefined
  readonly notes: readonly string[]
}

/** Throws or returns what is wrong with a plugin's data, as far as it can be told without making or reaching anything. */
type Check = (data: PlainObject, trustDomain: TrustDomain) => readonly string[] | undefined

function requires(...keys: readonly string[]): Check {
  return (data) => {
    for (const key of keys) if (textOf(data, key) === '') throw new Error(`${key} is required`)
    return undefined
  }
}

function isGiven(data: PlainObject, key: string): boolean {
  return data[key] !== undefined && data[key] !== ''
}

const anything: Check = () => undefined

/** A check that throws, and whose result is of no interest here. */
const throwing =
  (check: (data: PlainObject) => unknown): Check =>
  (data) => {
    check(data)
    return undefined
  }

/** Per type: how many there may be, and the plugins by name. */
const TYPES: Readonly<
  Record<string, { readonly min: number; readonly max: number; readonly plugins: Readonly<Record<string, Check>> }>
> = {
  DataStore: {
    min: 1,
    max: 1,
    plugins: {
      sql: throwing(readDataStore),
    },
  },
  KeyManager: {
    min: 1,
    max: 1,
    plugins: {
      memory: anything,
      disk: requires('keys_path'),
      database: throwing(kekSources),
      aws_kms: throwing(checkAwsKms),
      hashicorp_vault: throwing(checkVault),
    },
  },
  NodeAttestor: {
    min: 0,
    max: 64,
    plugins: {
      join_token: (data) => Object.keys(data).map((key) => `unknown setting ${JSON.stringify(key)} encountered`),
      x509pop(data, trustDomain) {
        configureX509Pop(data, { trustDomain, roots: async () => [], clock: systemClock, verify: async () => false })
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
      spire: checkUpstreamSpire,
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
  for (const config of enabled) {
    const { type, name } = config
    refuseExternal(config)
    const known = Object.hasOwn(TYPES, type) ? TYPES[type] : undefined
    if (!known) throw unsupportedType(type)
    const check = Object.hasOwn(known.plugins, name) ? known.plugins[name] : undefined
    if (!check) {
      throw new CommandError(
        `failed to load plugin ${JSON.stringify(name)}: no built-in plugin ${JSON.stringify(name)} for type ${JSON.stringify(type)}`,
      )
    }
    const notes = notesOf(() => check(dataOf(config), trustDomain))
    if (notes.length > 0) problems.push({ type, name, notes })
  }
  for (const [type, { min, max }] of Object.entries(TYPES)) {
    const count = enabled.filter((config) => config.type === type).length
    if (count >= min && count <= max) continue
    const expected = min === max ? `exactly ${min}` : count < min ? `at least ${min}` : `at most ${max}`
    problems.push({ type, name: undefined, notes: [`constraint not satisfied: expected ${expected} but got ${count}`] })
  }
  return problems
}

function notesOf(check: () => readonly string[] | undefined): readonly string[] {
  try {
    return check() ?? []
  } catch (error) {
    return [errorMessage(error)]
  }
}

/** All that is missing at once where identities come from a Workload API, SPIRE's only way. */
function checkUpstreamSpire(data: PlainObject, trustDomain: TrustDomain): readonly string[] {
  const missing =
    isGiven(data, 'server_url') || isGiven(data, 'node_attestor')
      ? []
      : ['server_address', 'server_port', 'workload_api_socket'].filter((key) => !isGiven(data, key))
  if (missing.length > 0) return missing.map((key) => `${key} is required`)
  readUpstreamSpire(data, trustDomain, '.')
  return []
}

/**
 * Ends a start before anything is made if a plugin cannot be.
 * @throws CommandError with SPIRE's texts
 */
export function requireUsablePlugins(configs: readonly PluginConfig[], trustDomain: TrustDomain): void {
  // Settings that nothing reads are for `validate` to tell.
  const first = checkServerPlugins(configs, trustDomain).find(
    ({ type, name }) => type !== 'NodeAttestor' || name !== 'join_token',
  )
  if (first === undefined) return
  const { type, name } = first
  const note = first.notes[0]!
  if (name === undefined) throw new CommandError(`plugin type ${JSON.stringify(type)} ${note}`)
  throw new CommandError(
    `failed to configure plugin ${JSON.stringify(name)}: rpc error: code = InvalidArgument desc = ${note}`,
  )
}
