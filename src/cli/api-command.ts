import { type ApiClient, socketClient } from './client.ts'
import { type Command, type CommandContext, defineCommand } from './command.ts'
import { type FlagTable, type FlagValues, text } from './flags.ts'
import { messagesJson, outputFlag } from './output.ts'
import { SERVER_FLAGS, serverClient } from './server/server-client.ts'
import { AGENT_ADMIN_SOCKET, absoluteTarget } from './socket.ts'

export const ERROR_PREFIX = 'Error: '

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

/** A command of the server's API: flags of socket and remote server, `-output`, a client, errors as `Error: ...` with exit code 1. */
export const serverCommand: MakeApiCommand = apiCommandMaker(SERVER_FLAGS, serverClient)

/** A command of the agent's admin API; only the flag says where its socket is. */
export const agentAdminCommand: MakeApiCommand = apiCommandMaker(
  { socketPath: text('Path to the SPIRE Agent admin API socket', AGENT_ADMIN_SOCKET) },
  ({ socketPath: path }) => socketClient(absoluteTarget(path)),
)

function apiCommandMaker<const S extends FlagTable>(
  placeFlags: S,
  clientOf: (flags: FlagValues<S>, env: CommandContext['env']) => ApiClient,
): MakeApiCommand {
  return (definition) =>
    defineCommand({
      name: definition.name,
      flags: { ...definition.flags, ...placeFlags, output: outputFlag() },
      errorPrefix: ERROR_PREFIX,
      run(values, context) {
        // The compiler cannot take a generic intersection apart: these are the flags added above and those of T.
        const { output } = values as unknown as { output: { format: string } }
        const json = output.format === 'json'
        return definition.run(values as never, {
          ...context,
          api: clientOf(values as unknown as FlagValues<S>, context.env),
          json,
          print(response, pretty) {
            if (json) context.stdout(messagesJson(response))
            else pretty(response)
          },
        })
      },
    })
}
