import { readAgentConfig } from '../../config/agent.ts'
import { defineCommand } from '../command.ts'
import { openLog } from '../logger.ts'
import { loadConfig, logNotices } from '../process-setup.ts'
import { joinTokenOf } from './join-token.ts'
import { DEFAULT_CONFIG, RUN_FLAGS } from './run-flags.ts'

const INVALID = 'SPIRE agent configuration file is invalid: '

/** Checks a configuration file; plugins are not loaded, as in SPIRE. */
export const command = defineCommand({
  name: 'validate',
  flags: RUN_FLAGS,
  repeatFlagError: INVALID,
  errorPrefix: INVALID,
  async run(flags, context) {
    const options = loadConfig(flags.config || DEFAULT_CONFIG, flags.expandEnv, context.env, (text, name) =>
      readAgentConfig(text, name, flags),
    )
    joinTokenOf(options)
    logNotices(options.notices, openLog({ ...options.logging, file: '' }).log)
    context.stdout('SPIRE agent configuration file is valid.\n')
    for (const sentence of options.withoutEffect) context.stderr(`Warning: ${sentence}\n`)
    return 0
  },
})
