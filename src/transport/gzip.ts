import { gunzipSync } from 'node:zlib'
import { errorMessage, StatusError } from '../core/error.ts'

/** @throws StatusError for what does not inflate, or to more than may be; no more than that is made of it */
export function inflate(message: Uint8Array, maxOutputLength: number): Uint8Array {
  try {
    return gunzipSync(message, { maxOutputLength })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') {
      throw new StatusError(
        'RESOURCE_EXHAUSTED',
        `grpc: received message after decompression larger than max ${maxOutputLength}`,
      )
    }
    throw new StatusError('INTERNAL', `grpc: failed to decompress the received message: ${errorMessage(error)}`)
  }
}
