import {
  ConfigureRequest,
  ConfigureResponse,
  ValidateRequest,
  ValidateResponse,
} from '../../proto/spire/service/common/config/v1.ts'
import { errorMessage, StatusError } from '../core/error.ts'
import { bidi, type Method, serverStream, unary } from '../rpc/method.ts'
import type { Configured } from './configured.ts'
import { type AnyRpc, type Implementation, KINDS, type PluginCall, type PluginKind } from './kinds.ts'

const CONFIG = 'spire.service.common.config.v1.Config'

/** The gRPC services that a plugin of that kind has. */
export function serviceNames(kind: PluginKind, isConfigurable: boolean): readonly string[] {
  return [KINDS[kind].service, ...(isConfigurable ? [CONFIG] : [])]
}

/** The methods of a kind, served by whatever was configured last. */
export function pluginMethods<K extends PluginKind>(kind: K, plugin: Configured<K>): readonly Method<undefined>[] {
  const { service, required, optional } = KINDS[kind]
  return Object.entries<AnyRpc>({ ...required, ...optional }).map(([name, rpc]) => {
    const row = { path: `/${service}/${rpc.name}`, request: rpc.request, response: rpc.response }
    const handler = (): AnyHandler => handlerOf(plugin.current(), name, rpc.name)
    if (rpc.shape === 'unary')
      return unary<undefined, unknown, unknown>({
        ...row,
        async handle(_, request, call) {
          try {
            return await handler()(request, call)
          } catch (error) {
            throw withText(error)
          }
        },
      })
    return { bidi, 'server-stream': serverStream }[rpc.shape]<undefined, unknown, unknown>({
      ...row,
      async *handle(_: undefined, request: unknown, call: PluginCall) {
        try {
          yield* handler()(request, call) as AsyncIterable<unknown>
        } catch (error) {
          throw withText(error)
        }
      },
    })
  })
}

/** The service that hands a plugin its configuration. */
export function configMethods(plugin: Configured<PluginKind>): readonly Method<undefined>[] {
  return [
    unary({
      path: `/${CONFIG}/Configure`,
      request: ConfigureRequest,
      response: ConfigureResponse,
      async handle(_, { coreConfiguration, hclConfiguration }) {
        await plugin.configure(hclConfiguration, coreConfiguration?.trustDomain).catch((error) => {
          throw withText(error)
        })
        return {}
      },
    }),
    unary({
      path: `/${CONFIG}/Validate`,
      request: ValidateRequest,
      response: ValidateResponse,
      async handle(_, { coreConfiguration, hclConfiguration }) {
        const { valid, notes } = await plugin.validate(hclConfiguration, coreConfiguration?.trustDomain)
        return { valid, notes: [...notes] }
      },
    }),
  ]
}

type AnyHandler = (request: unknown, call: PluginCall) => unknown

function handlerOf(implementation: Implementation<PluginKind>, name: string, onWire: string): AnyHandler {
  const found = (implementation as unknown as Record<string, AnyHandler | undefined>)[name]
  if (!found) throw new StatusError('UNIMPLEMENTED', `method ${onWire} not implemented`)
  return found.bind(implementation)
}

/** Host and plugin belong to one operator, who needs the text; Go's SDK sends it, too. */
function withText(error: unknown): StatusError {
  return error instanceof StatusError ? error : new StatusError('UNKNOWN', errorMessage(error), { cause: error })
}
