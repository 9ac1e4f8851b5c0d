import { readFileSync } from 'node:fs'
import type { ExchangeSourceConfig } from '../../config/exchange.ts'
import { errorMessage } from '../../core/error.ts'
import type { ExchangeSourceOptions } from '../../core/exchange.ts'

/** Reads what the configured sources keep in files. @throws Error that names the source */
export function loadExchangeSources(sources: readonly ExchangeSourceConfig[]): readonly ExchangeSourceOptions[] {
  return sources.map(({ jwksPath, ...source }) => {
    if (jwksPath === undefined) return source
    const fail = (reason: string) =>
      new Error(`exchange "${source.name}": jwks_path ${JSON.stringify(jwksPath)} ${reason}`)
    let jwks: unknown
    try {
      jwks = JSON.parse(readFileSync(jwksPath, 'utf8'))
    } catch (error) {
      throw fail(`cannot be read: ${error instanceof SyntaxError ? 'it is not JSON' : errorMessage(error)}`)
    }
    if (!Array.isArray((jwks as { keys?: unknown } | null)?.keys)) throw fail('is no JWKS')
    return { ...source, jwks: jwks as { readonly keys: readonly unknown[] } }
  })
}
