import { CommandError } from './failure.ts'

type Env = Readonly<Record<string, string | undefined>>

/** Where a program looks for a socket, in the order of their power: flag, instance, variable, default. */
interface SocketRules {
  readonly fallback: string
  readonly variable: string
  readonly template: string
  readonly missingTemplate: string
}

export const SERVER_SOCKET: SocketRules = {
  fallback: '/tmp/spire-server/private/api.sock',
  variable: 'SPIRE_SERVER_PRIVATE_SOCKET',
  template: 'SPIRE_SERVER_PRIVATE_SOCKET_TEMPLATE',
  missingTemplate: 'you must define SPIRE_SERVER_PRIVATE_SOCKET_TEMPLATE to use the instance flag',
}

export const AGENT_SOCKET: SocketRules = {
  fallback: '/tmp/spire-agent/public/api.sock',
  variable: 'SPIRE_AGENT_PUBLIC_SOCKET',
  template: 'SPIRE_AGENT_PUBLIC_SOCKET_TEMPLATE',
  // The blank in front is SPIRE's.
  missingTemplate:
    ' SPIRE_AGENT_PUBLIC_SOCKET_TEMPLATE environment variable must be defined when using the instance flag',
}

export const AGENT_ADMIN_SOCKET = '/tmp/spire-agent/private/admin.sock'

/**
 * The path of the socket to talk to. A flag with the default's value counts as not given, as in SPIRE.
 * @throws CommandError if an instance is named and the template is missing or has no `%i`, even beside `-socketPath`
 */
export function socketPath(
  rules: SocketRules,
  flags: { readonly socketPath: string; readonly instance: string },
  env: Env,
): string {
  const template = env[rules.template] ?? ''
  if (flags.instance !== '') {
    if (template === '') throw new CommandError(rules.missingTemplate)
    if (!template.includes('%i')) throw new CommandError(`failed to find %i in ${rules.template}`)
  }
  if (flags.socketPath !== rules.fallback) return flags.socketPath
  if (flags.instance !== '') return template.replaceAll('%i', flags.instance)
  return env[rules.variable] || rules.fallback
}

/** The channel target of a path; absolute ones get three slashes, as SPIRE's texts about a socket show for some commands. */
export function absoluteTarget(path: string): string {
  return path.startsWith('/') ? `unix://${path}` : `unix:${path}`
}

/** The channel target of a path as it is. */
export function plainTarget(path: string): string {
  return `unix:${path}`
}
