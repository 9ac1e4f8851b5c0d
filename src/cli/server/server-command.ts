import { type ApiClient, apiClient } from '../client.ts'
import { type Command, type CommandContext, defineCommand } from '../command.ts'
import { type FlagTable, type FlagValues, text } from '../flags.ts'
import { messagesJson, outputFlag } from '../output.ts'
import { absoluteTarget, SERVER_SOCKET, socketPath } from '../socket.ts'

export const ERROR_PREFIX = 'Error: '

/** The flags that every command has which talks to a running server. */
export const SOCKET_FLAGS = {
  socketPath: text('Path to the SPIRE Server API socket', SERVER_SOCKET.fallback),
  instance: text('Instance name to substitute into socket templates (env SPIRE_SERVER_PRIVATE_SOCKET_TEMPLATE).'),
} as const satisfies FlagTable

/** What such a command works with. */
export interface ServerCall extends CommandContext {
  readonly api: ApiClient
  /** Prints a response: as JSON if that was asked for, else by the given function. */
  print<T extends object>(response: T, pretty: (response: T) => void): void
  readonly json: boolean
}

export interface ServerCommandDefinition<T extends FlagTable> {
  readonly name: string
  readonly flags: T
  run(flags: FlagValues<T>, call: ServerCall): Promise<void>
}

/** Makes a command of the server's API: socket flags, `-output`, a client, errors as `Error: ...` with exit code 1. */
export function serverCommand<const T extends FlagTable>(definition: ServerCommandDefinition<T>): Command {
  const flags = { ...definition.flags, ...SOCKET_FLAGS, output: outputFlag() }
  return defineCommand({
    name: definition.name,
    flags,
    errorPrefix: ERROR_PREFIX,
    run(values, context) {
      // The compiler cannot take a generic intersection apart: these are the flags added above and those of T.
      const own = values as unknown as FlagValues<typeof SOCKET_FLAGS & { output: ReturnType<typeof outputFlag> }>
      const api = apiClient(absoluteTarget(socketPath(SERVER_SOCKET, own, context.env)))
      const json = own.output.format === 'json'
      return definition.run(values as unknown as FlagValues<T>, {
        ...context,
        api,
        json,
        print(response, pretty) {
          if (json) context.stdout(messagesJson(response))
          else pretty(response)
        },
      })
    },
  })
}
