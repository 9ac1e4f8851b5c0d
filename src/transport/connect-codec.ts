import { jsonToWire, jsonTypesOf, wireToJson } from '../../proto/json.ts'
import { errorMessage, StatusError } from '../core/error.ts'
import type { MethodKind } from '../rpc/method.ts'

/** How the messages of one request and of its answer are written: methods take and give protobuf. */
export interface MessageCodec {
  /** Of the answer. */
  readonly contentType: string
  /** @throws StatusError INVALID_ARGUMENT */
  readRequest(body: Uint8Array): Uint8Array
  writeResponse(message: Uint8Array): Uint8Array
}

/** How the answer to a request that cannot be read begins, in either form. */
export const UNREADABLE = { code: 'INVALID_ARGUMENT', text: 'the request is not valid' } as const

/** The media types that a method takes. */
export function acceptedTypes(kind: MethodKind): readonly string[] {
  return kind === 'unary'
    ? ['application/proto', 'application/json']
    : ['application/connect+proto', 'application/connect+json']
}

/** What a `Content-Type` says of the messages of a method; undefined: nothing that the method takes. */
export function codecOf(header: string | null, method: { readonly path: string; readonly kind: MethodKind }) {
  const [type = '', ...parameters] = (header ?? '').toLowerCase().split(';')
  const contentType = type.trim()
  const [proto, json] = acceptedTypes(method.kind)
  const isUtf8 = parameters.every((parameter) => /^\s*charset="?utf-8"?\s*$/.test(parameter))
  if (contentType === proto && parameters.length === 0) return protoCodec(contentType)
  const types = contentType === json && isUtf8 ? jsonTypesOf(method.path) : undefined
  return types && jsonCodec(contentType, types)
}

function protoCodec(contentType: string): MessageCodec {
  return { contentType, readRequest: (body) => body, writeResponse: (message) => message }
}

function jsonCodec(contentType: string, types: { readonly request: string; readonly response: string }): MessageCodec {
  return {
    contentType,
    readRequest(body) {
      try {
        return jsonToWire(types.request, body)
      } catch (cause) {
        throw new StatusError(UNREADABLE.code, `${UNREADABLE.text}: ${errorMessage(cause)}`, { cause })
      }
    },
    writeResponse: (message) => wireToJson(types.response, message),
  }
}
