import type { ExchangeSourceConfig } from '../../config/exchange.ts'
import { readServerConfig } from '../../config/server.ts'
import { systemClock } from '../../core/clock.ts'
import { errorMessage } from '../../core/error.ts'
import { silentLog } from '../../core/log.ts'
import type { TrustDomain } from '../../core/trust-domain.ts'
import { nodeVerifier } from '../../plugins/signer.ts'
import { defineCommand } from '../command.ts'
import { CommandError, hintsOf } from '../failure.ts'
import type { PluginProblem } from '../plugin-set.ts'
import { loadConfig } from '../process-setup.ts'
import { DEFAULT_CONFIG, RUN_FLAGS } from './run-flags.ts'

const INVALID = 'SPIRE server configuration file is invalid'

/** Checks a configuration file, plugins included, without making or reaching anything that they name. Plugins out of process are started and asked. */
export const command = defineCommand({
  name: 'validate',
  flags: RUN_FLAGS,
  repeatFlagError: `${INVALID}: `,
  errorPrefix: `${INVALID}: `,
  async run(flags, context) {
    const { plugins, trustDomain, dataDir, http, withoutEffect } = loadConfig(
      flags.config || DEFAULT_CONFIG,
      flags.expandEnv,
      context.env,
      (text, name) => readServerConfig(text, name, flags),
      () => {},
    )
    await checkExchange(http?.exchange ?? [], trustDomain)
    const { serverPluginSet } = await import('./plugins.ts')
    let warnings = withoutEffect
    try {
      const pluginSet = serverPluginSet({ trustDomain, plugins }, {}, context.env, silentLog)
      const problems = await pluginSet.check({ trustDomain, dataDir }, 'ask')
      if (problems.length > 0) {
        context.stderr(`${INVALID}.\nValidation errors:\n`)
        for (const { kind, name, notes } of problems) {
          const plugin = name === undefined ? kind : `${kind} ${JSON.stringify(name)}`
          context.stderr(`\t${plugin}:\n${notes.map(({ text }) => `\t\t${text}\n`).join('')}`)
        }
        // SPIRE's words end here.
        context.stderr(
          problems
            .flatMap(placesOf)
            .map((hint) => `${hint}\n`)
            .join(''),
        )
        return 1
      }
      // What it names may be on another machine: SPIRE's verdict stays.
      const preview = { trustDomain, dataDir, clock: systemClock, verify: nodeVerifier() }
      warnings = [...warnings, ...(await pluginSet.preview(preview))]
    } catch (error) {
      if (!(error instanceof CommandError)) throw error
      context.stderr(`Could not validate configuration file: ${error.message}`)
      if (error.hints.length > 0) context.stderr(`\n${hintsOf(error)}`)
      return 1
    }
    context.stdout('SPIRE server configuration file is valid.\n')
    for (const sentence of warnings) context.stderr(`Warning: ${sentence}\n`)
    return 0
  },
})

async function checkExchange(sources: readonly ExchangeSourceConfig[], trustDomain: TrustDomain): Promise<void> {
  const { checkSources } = await import('../../server/exchange/source.ts')
  try {
    // The files that they name are for who runs it.
    checkSources(
      trustDomain,
      sources.map(({ jwksPath: _, ...source }) => source),
    )
  } catch (error) {
    throw new CommandError(errorMessage(error))
  }
}

/** In which lines of the configuration something is wrong with a plugin. */
function placesOf({ kind, name, notes }: PluginProblem): readonly string[] {
  const lines = new Set(notes.flatMap(({ line }) => line ?? []))
  return [...lines].map((line) => `see ${kind} ${JSON.stringify(name)}, line ${line}`)
}
