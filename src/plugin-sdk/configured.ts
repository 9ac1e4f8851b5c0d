import { parseHcl } from '../config/hcl.ts'
import { plainObject } from '../config/plain.ts'
import { errorMessage, StatusError } from '../core/error.ts'
import { parseTrustDomainName } from '../core/trust-domain.ts'
import type { Implementation, PluginKind } from './kinds.ts'
import type { GivenConfiguration, PluginHost, PluginProgram } from './program.ts'

/** A plugin under its host: not configured, configured, and configured anew. */
export interface Configured<K extends PluginKind> {
  /** @throws StatusError FAILED_PRECONDITION before the first configuration */
  current(): Implementation<K>
  /** Serves with this configuration from now on. If it fails, the one before serves on. One after the other. */
  configure(text: string, trustDomain: string | undefined): Promise<void>
  /** Says whether it could. */
  validate(
    text: string,
    trustDomain: string | undefined,
  ): Promise<{ readonly valid: boolean; readonly notes: readonly string[] }>
  /** Makes a plugin that takes no configuration. */
  start(): Promise<void>
  /** Closes what serves; a second call does nothing. */
  close(): Promise<void>
}

export function configured<K extends PluginKind, Config>(
  program: PluginProgram<K, Config>,
  host: PluginHost,
): Configured<K> {
  let serving: Implementation<K> | undefined
  let turn: Promise<void> = Promise.resolve()

  async function serve(config: Config): Promise<void> {
    const next = await program.make(config, host)
    const former = serving
    serving = next
    await former?.close?.()
  }

  return {
    current() {
      if (!serving) throw new StatusError('FAILED_PRECONDITION', 'not configured')
      return serving
    },
    configure(text, trustDomain) {
      const now = turn.then(async () => serve(await read(program, given(text, trustDomain))))
      turn = now.catch(() => {})
      return now
    },
    async validate(text, trustDomain) {
      try {
        const configuration = given(text, trustDomain)
        await read(program, configuration)
        return { valid: true, notes: (await program.notes?.(configuration)) ?? [] }
      } catch (error) {
        return { valid: false, notes: [errorMessage(error)] }
      }
    },
    start: () => serve(undefined as Config),
    async close() {
      const last = serving
      serving = undefined
      await last?.close?.()
    },
  }
}

/** @throws StatusError INVALID_ARGUMENT with SPIRE's texts */
function given(text: string, trustDomain: string | undefined): GivenConfiguration {
  if (trustDomain === undefined) throw new StatusError('INVALID_ARGUMENT', 'server core configuration is required')
  if (trustDomain === '')
    throw new StatusError('INVALID_ARGUMENT', 'server core configuration must contain trust_domain')
  const name = refusing('server core configuration trust_domain is malformed', () => parseTrustDomainName(trustDomain))
  const data = refusing('unable to decode configuration', () => plainObject(parseHcl(text)))
  return { text, data, trustDomain: name }
}

function refusing<T>(what: string, parse: () => T): T {
  try {
    return parse()
  } catch (cause) {
    throw new StatusError('INVALID_ARGUMENT', `${what}: ${errorMessage(cause)}`, { cause })
  }
}

/** @throws StatusError */
async function read<Config>(
  { read }: Pick<PluginProgram<PluginKind, Config>, 'read'>,
  configuration: GivenConfiguration,
): Promise<Config> {
  if (!read) throw new StatusError('UNIMPLEMENTED', 'the plugin takes no configuration')
  try {
    return await read(configuration)
  } catch (cause) {
    throw cause instanceof StatusError ? cause : new StatusError('INVALID_ARGUMENT', errorMessage(cause), { cause })
  }
}
