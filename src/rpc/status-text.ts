import type { StatusCode, StatusError } from '../core/error.ts'

/** What a failed call looks like to a user and in a log: grpc-go's text of a status. */
export function rpcErrorText(error: StatusError): string {
  return `rpc error: code = ${codeName(error.code)} desc = ${error.message}`
}

/** `InvalidArgument` for INVALID_ARGUMENT: how Go prints a status code. */
export function codeName(code: StatusCode): string {
  if (code === 'OK') return 'OK'
  if (code === 'CANCELLED') return 'Canceled'
  return code
    .split('_')
    .map((word) => word[0] + word.slice(1).toLowerCase())
    .join('')
}
