import { KINDS } from './kinds.ts'

// How go-plugin's hosts and plugins find each other: a cookie in the environment, a line on stdout.

export type Environment = Readonly<Record<string, string | undefined>>

const CORE_VERSION = 1
/** Of SPIRE's plugins. */
const PLUGIN_VERSION = 1

/** Whether a host of that type of plugin started this process: the cookie's name and value are the type. */
export function isStartedByHost(type: string, env: Environment): boolean {
  return env[type] === type
}

/** What somebody is told who starts a plugin by hand, or under another type. */
export function explanation(kind: keyof typeof KINDS, program: string, env: Environment): string {
  const { type } = KINDS[kind]
  const other = Object.values(KINDS).find((one) => one.type !== type && env[one.type] === one.type)?.type
  if (other !== undefined) return `${program} is a SPIRE plugin of type ${type} and was started as ${other}\n`
  const side = kind.slice(0, kind.indexOf('/'))
  return `${program} is a SPIRE plugin of type ${type}. The ${side} starts it, not a person: name it in the configuration of
spire-${side} or turret-${side}, in the block plugins:

  ${type} "a name" {
    plugin_cmd = ${JSON.stringify(program)}
    plugin_data { }
  }
`
}

/** Where a plugin listens and how one speaks with it. */
export interface Place {
  readonly network: 'unix' | 'tcp'
  readonly address: string
  /** DER, where the host asked for mutual TLS. */
  readonly certificate: Uint8Array | undefined
}

/**
 * The line that the host waits for on stdout.
 *
 * Old hosts do not know the last field and take it for a part of the certificate, so it is there for those alone that ask.
 */
export function handshakeLine({ network, address, certificate }: Place, env: Environment): string {
  const encoded = certificate ? Buffer.from(certificate).toString('base64').replace(/=+$/, '') : ''
  const fields = [CORE_VERSION, PLUGIN_VERSION, network, address, 'grpc', encoded]
  return `${[...fields, ...(env.PLUGIN_MULTIPLEX_GRPC ? ['true'] : [])].join('|')}\n`
}

/** Whether the host wants one connection for all. Values as Go's ParseBool. */
export function wantsOneConnection(env: Environment): boolean {
  return ['1', 't', 'T', 'TRUE', 'true', 'True'].includes(env.PLUGIN_MULTIPLEX_GRPC ?? '')
}
