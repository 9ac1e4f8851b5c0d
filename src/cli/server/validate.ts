import { readServerConfig } from '../../config/server.ts'
import { defineCommand } from '../command.ts'
import { CommandError } from '../failure.ts'
import { loadConfig } from '../process-setup.ts'
import { DEFAULT_CONFIG, RUN_FLAGS } from './run-flags.ts'

/** Checks a configuration file, plugins included, without opening, making or reaching anything that they name. */
export const command = defineCommand({
  name: 'validate',
  flags: RUN_FLAGS,
  async run(flags, context) {
    const invalid = (error: unknown) => {
      if (!(error instanceof CommandError)) throw error
      context.stdout(`SPIRE server configuration file is invalid: ${error.message}\n`)
      return 1
    }
    try {
      const { plugins, trustDomain } = loadConfig(
        flags.config || DEFAULT_CONFIG,
        flags.expandEnv,
        context.env,
        (text, name) => readServerConfig(text, name, flags),
      )
      const { checkServerPlugins } = await import('./plugin-checks.ts')
      const problems = checkServerPlugins(plugins, trustDomain)
      if (problems.length > 0) {
        context.stdout('SPIRE server configuration file is invalid.\nValidation errors:\n')
        for (const { plugin, problem } of problems) context.stdout(`\t${plugin}:\n\t\t${problem}\n`)
        return 1
      }
    } catch (error) {
      return invalid(error)
    }
    context.stdout('SPIRE server configuration file is valid.\n')
    return 0
  },
})
