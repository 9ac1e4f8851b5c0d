import { type ApiClient, apiClient, socketClient } from '../client.ts'
import type { CommandContext } from '../command.ts'
import { type FlagTable, type FlagValues, text } from '../flags.ts'
import { absoluteTarget, SERVER_SOCKET, socketPath } from '../socket.ts'
import { REMOTE_FLAGS, remoteOf } from './remote-flags.ts'

/** The flags that every command has which talks to a running server. */
export const SERVER_FLAGS = {
  socketPath: text('Path to the SPIRE Server API socket', SERVER_SOCKET.fallback),
  instance: text('Instance name to substitute into socket templates (env SPIRE_SERVER_PRIVATE_SOCKET_TEMPLATE).'),
  ...REMOTE_FLAGS,
} as const satisfies FlagTable

/** A client of the server that the flags mean: on this machine by its socket, or somewhere else by its URL. */
export function serverClient(flags: FlagValues<typeof SERVER_FLAGS>, env: CommandContext['env']): ApiClient {
  const remote = remoteOf(flags, env, flags.socketPath !== SERVER_SOCKET.fallback || flags.instance !== '')
  if (remote) return apiClient(async () => (await import('./remote.ts')).connectRemote(remote))
  return socketClient(absoluteTarget(socketPath(SERVER_SOCKET, flags, env)))
}
