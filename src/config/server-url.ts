import { errorMessage } from '../core/error.ts'
import { isSecureUrl } from '../core/secure-url.ts'
import { ConfigError } from './hcl.ts'

/**
 * Looks at the URL of a server. Plain HTTP is for what listens on this machine; answers are signed either way.
 * @param name of the setting, for errors
 * @throws ConfigError
 */
export function requireServerUrl(text: string, name: string): URL {
  let url: URL
  try {
    url = new URL(text)
  } catch (error) {
    throw new ConfigError(`unable to parse ${name}: ${errorMessage(error)}`)
  }
  if (!isSecureUrl(url)) throw new ConfigError(`${name} must start with https://`)
  return url
}
