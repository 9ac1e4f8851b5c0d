import { resolve } from 'node:path'
import type { ClientCallOptions } from '../../transport/grpc-client.ts'
import { type ApiClient, socketClient } from '../client.ts'
import { type Command, type CommandContext, defineCommand } from '../command.ts'
import { CommandError } from '../failure.ts'
import { durationValue, type FlagTable, type FlagValues, text } from '../flags.ts'
import { AGENT_SOCKET, plainTarget, socketPath } from '../socket.ts'
import { WORKLOAD_HEADER } from '../workload-methods.ts'

/** Where the agent's public socket is; `what` differs between commands. */
export const agentSocketFlags = (what: string) =>
  ({
    socketPath: text(`Path to the SPIRE Agent API ${what}`, AGENT_SOCKET.fallback),
    instance: text('Instance name to substitute into socket templates (env SPIRE_AGENT_PUBLIC_SOCKET_TEMPLATE).'),
  }) as const satisfies FlagTable

export const WORKLOAD_SOCKET_FLAGS = agentSocketFlags('Unix domain socket')

/**
 * A client of the agent's public socket.
 * @throws CommandError if the flags ask for an instance and the environment has no template
 */
export function agentClient(
  flags: { readonly socketPath: string; readonly instance: string },
  env: CommandContext['env'],
): ApiClient {
  return socketClient(plainTarget(resolve(socketPath(AGENT_SOCKET, flags, env))))
}

export interface WorkloadCall extends CommandContext {
  readonly api: ApiClient
  /** The header and the time limit of each call. */
  readonly options: ClientCallOptions
}

/** Makes a command of the Workload API: socket flags, `-timeout`, errors as they are with exit code 1. */
export function workloadCommand<const T extends FlagTable>(definition: {
  readonly name: string
  readonly flags: T
  run(flags: FlagValues<T>, call: WorkloadCall): Promise<void>
}): Command {
  return defineCommand({
    name: definition.name,
    flags: {
      ...definition.flags,
      ...WORKLOAD_SOCKET_FLAGS,
      timeout: durationValue('Time to wait for a response', 5),
    },
    helpEnd: '',
    repeatFlagError: '',
    run(values, context) {
      // The compiler cannot take a generic intersection apart: these are the flags added above and those of T.
      const own = values as unknown as { socketPath: string; instance: string; timeout: number }
      const limit = own.timeout > 0 ? { timeoutMs: own.timeout * 1000 } : {}
      const api = agentClient(own, context.env)
      const options = { metadata: WORKLOAD_HEADER, ...limit }
      return definition.run(values as unknown as FlagValues<T>, { ...context, api, options })
    },
  })
}

/**
 * The first message of a stream, which is then left.
 * @throws CommandError `EOF` if the stream ends without one
 */
export async function firstOf<T>(stream: AsyncIterable<T>): Promise<T> {
  for await (const message of stream) return message
  throw new CommandError('EOF')
}
