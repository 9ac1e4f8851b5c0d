import { agentAdminCommand } from '../api-command.ts'
import { loggerCommands } from '../logger-command.ts'

/** `logger get`, `set` and `reset` of the agent. */
export const logger = loggerCommands(agentAdminCommand, 'spire.api.agent.logger.v1.Logger')
