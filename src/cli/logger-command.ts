import * as api from '../../proto/spire/api/server/logger/v1.ts'
import { Logger, LogLevel } from '../../proto/spire/api/types.ts'
import type { ClientMethod } from '../transport/grpc-client.ts'
import type { MakeApiCommand } from './api-command.ts'
import { explained } from './client.ts'
import type { Command } from './command.ts'
import { CommandError } from './failure.ts'
import { text } from './flags.ts'

/** What a level is called on output, by its number. */
const LEVEL_NAMES: readonly string[] = ['', 'panic', 'fatal', 'error', 'warning', 'info', 'debug', 'trace']
/** What may be given for it. */
const LEVELS = new Map([...LEVEL_NAMES.entries()].slice(1).map(([level, name]) => [name, level as LogLevel]))
LEVELS.set('warn', LogLevel.WARN)

/**
 * The commands `logger get`, `set` and `reset` of a program.
 * @param service the gRPC service; its messages are the same in server and agent
 */
export function loggerCommands(make: MakeApiCommand, service: string): Record<'get' | 'set' | 'reset', Command> {
  const row = <Req>(name: string, request: ClientMethod<Req, Logger>['request']): ClientMethod<Req, Logger> => ({
    path: `/${service}/${name}`,
    request,
    response: Logger,
  })
  const shown = ({ currentLevel, launchLevel }: Logger): string =>
    `Logger Level : ${LEVEL_NAMES[currentLevel] ?? ''}\nLaunch Level : ${LEVEL_NAMES[launchLevel] ?? ''}\n\n`
  return {
    get: make({
      name: 'logger get',
      flags: {},
      async run(_flags, call) {
        const logger = await explained(
          'error fetching logger',
          call.api.call(row('GetLogger', api.GetLoggerRequest), {}),
        )
        call.print(named(logger), () => call.stdout(shown(logger)))
      },
    }),
    set: make({
      name: 'logger set',
      flags: { level: text('The new log level, one of (panic, fatal, error, warn, info, debug, trace)') },
      async run(flags, call) {
        if (flags.level === '') throw new CommandError('a value (-level) must be set')
        const newLevel = LEVELS.get(flags.level.toLowerCase())
        if (newLevel === undefined) {
          throw new CommandError(`the value ${JSON.stringify(flags.level)} is not a valid setting`)
        }
        const set = call.api.call(row('SetLogLevel', api.SetLogLevelRequest), { newLevel })
        const logger = await explained('failed to set log level', set)
        call.print(named(logger), () => call.stdout(shown(logger)))
      },
    }),
    reset: make({
      name: 'logger reset',
      flags: {},
      async run(_flags, call) {
        const reset = call.api.call(row('ResetLogLevel', api.ResetLogLevelRequest), {})
        const logger = await explained('failed to reset logger', reset)
        call.print(named(logger), () => call.stdout(shown(logger)))
      },
    }),
  }
}

/** The message with the names of its enum values, as JSON has them. */
function named(logger: Logger): object {
  const nameOf = (level: LogLevel): string | number =>
    Object.entries(LogLevel).find(([, value]) => value === level)?.[0] ?? level
  return { currentLevel: nameOf(logger.currentLevel), launchLevel: nameOf(logger.launchLevel) }
}
