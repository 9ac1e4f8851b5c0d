import { type RequestOptions as HttpOptions, request as httpRequest } from 'node:http'
import { type RequestOptions as HttpsOptions, request as httpsRequest } from 'node:https'

export interface HttpAnswer {
  readonly status: number
  readonly body: string
}

/** One GET on a connection of its own; redirects are not followed. @throws Error if it fails, the signal aborts or the body is larger */
export function get(
  options: (HttpOptions & { readonly protocol?: 'http:' }) | (HttpsOptions & { readonly protocol: 'https:' }),
  maxBytes: number,
  signal: AbortSignal,
): Promise<HttpAnswer> {
  const { promise, resolve, reject } = Promise.withResolvers<HttpAnswer>()
  const send = options.protocol === 'https:' ? httpsRequest : httpRequest
  const request = send({ ...options, agent: false, method: 'GET', signal }, (response) => {
    const chunks: Buffer[] = []
    let total = 0
    response.on('data', (chunk: Buffer) => {
      total += chunk.length
      if (total > maxBytes) request.destroy(new Error(`the answer has more than ${maxBytes} bytes`))
      else chunks.push(chunk)
    })
    response.on('error', reject)
    response.on('end', () => resolve({ status: response.statusCode!, body: Buffer.concat(chunks).toString('utf8') }))
  })
  request.on('error', (error) => reject(signal.aborted ? signal.reason : error))
  request.end()
  return promise
}
