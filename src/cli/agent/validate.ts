import { readAgentConfig } from '../../config/agent.ts'
import { defineCommand } from '../command.ts'
import { CommandError } from '../failure.ts'
import { loadConfig } from '../process-setup.ts'
import { DEFAULT_CONFIG, RUN_FLAGS } from './run-flags.ts'

/** Checks a configuration file; plugins are not loaded, as in SPIRE. */
export const command = defineCommand({
  name: 'validate',
  flags: RUN_FLAGS,
  async run(flags, context) {
    try {
      loadConfig(flags.config || DEFAULT_CONFIG, flags.expandEnv, context.env, (text, name) =>
        readAgentConfig(text, name, flags),
      )
    } catch (error) {
      if (!(error instanceof CommandError)) throw error
      context.stderr(`SPIRE agent configuration file is invalid: ${error.message}\n`)
      return 1
    }
    context.stdout('SPIRE agent configuration file is valid.\n')
    return 0
  },
})
