import { errorMessage } from '../core/error.ts'
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
  const local = ['localhost', '127.0.0.1', '[::1]'].includes(url.hostname)
  if (url.protocol !== 'https:' && !(url.protocol === 'http:' && local))
    throw new ConfigError(`${name} must start with https://`)
  return url
}
