import { concat } from '../core/der.ts'
import { StatusError } from '../core/error.ts'

/**
 * Reads a whole body that comes in time and keeps to a size, whether its length was declared or not.
 *
 * @throws StatusError RESOURCE_EXHAUSTED, DEADLINE_EXCEEDED, INVALID_ARGUMENT if it breaks off
 */
export async function readBody(
  request: Request,
  { maxBytes, timeoutMs }: { readonly maxBytes: number; readonly timeoutMs: number },
): Promise<Uint8Array> {
  const tooLarge = () => new StatusError('RESOURCE_EXHAUSTED', 'the request is larger than the server takes')
  if (Number(request.headers.get('content-length') ?? '0') > maxBytes) throw tooLarge()
  if (request.body === null) return new Uint8Array(0)
  const reader = request.body.getReader()
  let late = false
  const timer = setTimeout(() => {
    late = true
    void reader.cancel().catch(() => {})
  }, timeoutMs)
  const chunks: Uint8Array[] = []
  let size = 0
  try {
    for (;;) {
      const { done, value } = await reader.read()
      if (late) throw new StatusError('DEADLINE_EXCEEDED', 'the request did not come in time')
      if (done) break
      size += value.length
      if (size > maxBytes) {
        void reader.cancel().catch(() => {})
        throw tooLarge()
      }
      chunks.push(value)
    }
  } catch (cause) {
    if (cause instanceof StatusError) throw cause
    throw new StatusError('INVALID_ARGUMENT', 'the request broke off', { cause })
  } finally {
    clearTimeout(timer)
  }
  return chunks.length === 1 ? chunks[0]! : concat(chunks)
}
