import { serverCommand } from '../api-command.ts'
import { loggerCommands } from '../logger-command.ts'

/** `logger get`, `set` and `reset` of the server. */
export const logger = loggerCommands(serverCommand, 'spire.api.server.logger.v1.Logger')
