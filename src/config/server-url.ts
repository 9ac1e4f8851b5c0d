import { isSecureUrl } from '../core/secure-url.ts'
import { ConfigError, prefixed } from './hcl.ts'

/**
 * Looks at the URL of a server. Plain HTTP is for what listens on this machine; answers are signed either way.
 * @param name of the setting, for errors
 * @throws ConfigError
 */
export function requireServerUrl(text: string, name: string): URL {
  const url = prefixed(`unable to parse ${name}`, () => new URL(text))
  if (!isSecureUrl(url)) throw new ConfigError(`${name} must start with https://`)
  return url
}
