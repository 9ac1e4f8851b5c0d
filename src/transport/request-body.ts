import { StatusError } from '../core/error.ts'

export interface BodyLimits {
  readonly maxBytes: number
  /** Time in which all of it must have come. */
  readonly timeoutMs: number
  /** Told of each part that comes. @throws StatusError if there is no room for it */
  readonly take?: (bytes: number) => void
}

const FIRST_BYTES = 4096

/**
 * Reads a whole body that comes in time and keeps to a size, whether its length was declared or not. Memory is at most twice what has come,
 * in however many parts.
 *
 * @throws StatusError RESOURCE_EXHAUSTED, DEADLINE_EXCEEDED, INVALID_ARGUMENT if it breaks off, or what `take` throws
 */
export async function readBody(request: Request, { maxBytes, timeoutMs, take }: BodyLimits): Promise<Uint8Array> {
  const tooLarge = () => new StatusError('RESOURCE_EXHAUSTED', 'the request is larger than the server takes')
  if (Number(request.headers.get('content-length') ?? '0') > maxBytes) throw tooLarge()
  if (request.body === null) return new Uint8Array(0)
  const reader = request.body.getReader()
  let late = false
  const timer = setTimeout(() => {
    late = true
    void reader.cancel().catch(() => {})
  }, timeoutMs)
  let bytes = new Uint8Array(0)
  let size = 0
  try {
    for (;;) {
      const { done, value } = await reader.read()
      if (late) throw new StatusError('DEADLINE_EXCEEDED', 'the request did not come in time')
      if (done) return bytes.subarray(0, size)
      if (size + value.length > maxBytes) throw tooLarge()
      take?.(value.length)
      if (size + value.length > bytes.length) {
        const larger = new Uint8Array(Math.max(size + value.length, Math.min(maxBytes, 2 * size), FIRST_BYTES))
        larger.set(bytes.subarray(0, size))
        bytes = larger
      }
      bytes.set(value, size)
      size += value.length
    }
  } catch (cause) {
    void reader.cancel().catch(() => {})
    if (cause instanceof StatusError) throw cause
    throw new StatusError('INVALID_ARGUMENT', 'the request broke off', { cause })
  } finally {
    clearTimeout(timer)
  }
}
