import { request as httpRequest } from 'node:http'
import { request as httpsRequest } from 'node:https'

export interface TlsOptions {
  /** PEM of the CAs that the server's certificate may come from; default the system's. */
  readonly ca?: string
  /** PEM of the client's certificate and key. */
  readonly cert?: string
  readonly key?: string
  readonly insecureSkipVerify?: boolean
}

/** What of `fetch` the plugins use. */
export type Fetch = (
  url: string,
  init: {
    readonly method: string
    readonly headers: Readonly<Record<string, string>>
    readonly body?: string
    readonly signal: AbortSignal
  },
) => Promise<{ readonly status: number; text(): Promise<string> }>

const MAX_ANSWER_BYTES = 4 * 1024 * 1024

/** `fetch` with a CA and a client certificate of its own, which Node's does not take. Follows no redirects. */
export function tlsFetch({ ca, cert, key, insecureSkipVerify }: TlsOptions): Fetch {
  return (url, { method, headers, body, signal }) =>
    new Promise((resolve, reject) => {
      const options = { method, headers, signal, ca, cert, key, rejectUnauthorized: !insecureSkipVerify }
      const send = url.startsWith('https:') ? httpsRequest : httpRequest
      const outgoing = send(url, options, (response) => {
        const chunks: Buffer[] = []
        let size = 0
        response.on('data', (chunk: Buffer) => {
          size += chunk.length
          if (size > MAX_ANSWER_BYTES) response.destroy(new Error('the answer is too large'))
          else chunks.push(chunk)
        })
        response.on('error', reject)
        response.on('end', () => {
          const text = Buffer.concat(chunks).toString('utf8')
          resolve({ status: response.statusCode ?? 0, text: async () => text })
        })
      })
      outgoing.on('error', reject)
      outgoing.end(body)
    })
}
