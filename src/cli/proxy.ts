import { CommandError } from './failure.ts'

type Environment = Readonly<Record<string, string | undefined>>

/** Never through a proxy, as in Go: this machine, and where clouds hand out the identity of a machine. */
const NEVER = 'localhost,127.0.0.1,[::1],::1,169.254.169.254'

/**
 * What the environment says of HTTP proxies, in the form that Node takes; undefined: nothing.
 * @throws CommandError for a proxy that is no URL; its text, which may hold a password, is not in the message
 */
export function proxySettings(env: Environment): Readonly<Record<string, string>> | undefined {
  const found: Record<string, string> = {}
  for (const name of ['HTTP_PROXY', 'HTTPS_PROXY']) {
    const value = env[name.toLowerCase()] || env[name]
    if (!value) continue
    // As curl and Go: a proxy may be named without scheme.
    const url = value.includes('://') ? value : `http://${value}`
    if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol)) {
      throw new CommandError(`${name} must be an http:// or https:// URL`)
    }
    found[name] = url
  }
  if (Object.keys(found).length === 0) return undefined
  const except = env.no_proxy || env.NO_PROXY
  return { ...found, NO_PROXY: except ? `${except},${NEVER}` : NEVER }
}

/**
 * Sends what this process asks by HTTP through the proxies of `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`; https: as a tunnel, so that
 * the proxy sees names and sizes alone. Unix sockets and gRPC are not concerned.
 */
export async function useProxies(env: Environment): Promise<void> {
  const settings = proxySettings(env)
  // Deno and Bun look at the environment by themselves.
  if (!settings || process.versions.deno || process.versions.bun) return
  const http = await import('node:http')
  // Older Nodes can be told by NODE_USE_ENV_PROXY=1 alone.
  http.setGlobalProxyFromEnv?.(settings)
}
