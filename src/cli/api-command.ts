import { type ApiClient, apiClient } from './client.ts'
import { type Command, type CommandContext, defineCommand } from './command.ts'
import { type FlagTable, type FlagValues, text } from './flags.ts'
import { messagesJson, outputFlag } from './output.ts'
import { AGENT_ADMIN_SOCKET, absoluteTarget, SERVER_SOCKET, socketPath } from './socket.ts'

export const ERROR_PREFIX = 'Error: '

/** The flags that every command has which talks to a running server. */
export const SOCKET_FLAGS = {
  socketPath: text('Path to the SPIRE Server API socket', SERVER_SOCKET.fallback),
  instance: text('Instance name to substitute into socket templates (env SPIRE_SERVER_PRIVATE_SOCKET_TEMPLATE).'),
} as const satisfies FlagTable

/** What a command of an administrative API works with. */
export interface ApiCall extends CommandContext {
  readonly api: ApiClient
  /** Prints a response: as JSON if that was asked for, else by the given function. */
  print<T extends object>(response: T, pretty: (response: T) => void): void
  readonly json: boolean
}

export interface ApiCommandDefinition<T extends FlagTable> {
  readonly name: string
  readonly flags: T
  run(flags: FlagValues<T>, call: ApiCall): Promise<void>
}

/** Makes a command of one of the two administrative APIs. */
export type MakeApiCommand = <const T extends FlagTable>(definition: ApiCommandDefinition<T>) => Command

/** A command of the server's API: socket flags, `-output`, a client, errors as `Error: ...` with exit code 1. */
export const serverCommand: MakeApiCommand = apiCommandMaker(SOCKET_FLAGS, (flags, env) =>
  socketPath(SERVER_SOCKET, { socketPath: flags.socketPath, instance: flags.instance ?? '' }, env),
)

/** A command of the agent's admin API; only the flag says where its socket is. */
export const agentAdminCommand: MakeApiCommand = apiCommandMaker(
  { socketPath: text('Path to the SPIRE Agent admin API socket', AGENT_ADMIN_SOCKET) },
  (flags) => flags.socketPath,
)

function apiCommandMaker(
  socketFlags: FlagTable,
  pathOf: (flags: { readonly socketPath: string; readonly instance?: string }, env: CommandContext['env']) => string,
): MakeApiCommand {
  return (definition) =>
    defineCommand({
      name: definition.name,
      flags: { ...definition.flags, ...socketFlags, output: outputFlag() },
      errorPrefix: ERROR_PREFIX,
      run(values, context) {
        // The compiler cannot take a generic intersection apart: these are the flags added above and those of T.
        const own = values as unknown as { socketPath: string; instance?: string; output: { format: string } }
        const json = own.output.format === 'json'
        return definition.run(values as never, {
          ...context,
          api: apiClient(absoluteTarget(pathOf(own, context.env))),
          json,
          print(response, pretty) {
            if (json) context.stdout(messagesJson(response))
            else pretty(response)
          },
        })
      },
    })
}
