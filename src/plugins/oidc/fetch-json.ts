import { errorMessage } from '../../core/error.ts'
import { parseJson } from '../../core/json-object.ts'
import { isSecureUrl } from '../../core/secure-url.ts'

const MAX_BYTES = 256 * 1024
const TIMEOUT_MS = 5_000

/**
 * Fetches a JSON document of an issuer: HTTPS, or plain HTTP from this machine; no redirects, at most 256 KiB and five seconds.
 * @param what is fetched, for errors
 * @throws Error
 */
export async function fetchJson(address: string, what: string, send: typeof fetch): Promise<unknown> {
  const url = URL.parse(address)
  if (!url || !isSecureUrl(url)) throw new Error(`${what} must be fetched over https://`)
  const where = `${what} at ${url.origin}${url.pathname}`
  try {
    const response = await send(url, {
      // A redirect could lead anywhere, plain HTTP included; issuers have no need of them.
      redirect: 'manual',
      headers: { accept: 'application/json' },
      signal: AbortSignal.timeout(TIMEOUT_MS),
    })
    if (response.status !== 200) {
      await response.body?.cancel()
      throw new Error(
        (response.status >= 300 && response.status < 400) || response.type === 'opaqueredirect'
          ? 'it redirects'
          : `HTTP status ${response.status}`,
      )
    }
    return parseJson(await limitedText(response))
  } catch (error) {
    throw new Error(
      `${where} cannot be had: ${error instanceof SyntaxError ? 'it is not JSON' : errorMessage(error)}`,
      {
        cause: error,
      },
    )
  }
}

async function limitedText(response: Response): Promise<string> {
  const decoder = new TextDecoder('utf-8', { fatal: true })
  let text = ''
  let size = 0
  for await (const chunk of (response.body ?? []) as unknown as AsyncIterable<Uint8Array>) {
    size += chunk.length
    if (size > MAX_BYTES) throw new Error('it is larger than 256 KiB')
    text += decoder.decode(chunk, { stream: true })
  }
  return text + decoder.decode()
}
