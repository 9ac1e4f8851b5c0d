import * as api from '../../proto/turret/exchange/v1.ts'
import { StatusError } from '../core/error.ts'
import type { MessageType } from '../rpc/method.ts'
import type { BoundService } from '../rpc/service.ts'

/** The exchange as the plain HTTP doors call it: through the method table like everybody, so that limits, audit and errors are the same. */
export interface ExchangeCalls {
  x509(request: api.ExchangeX509Request, caller: HttpCaller): Promise<api.ExchangeX509Response>
  jwt(request: api.ExchangeJWTRequest, caller: HttpCaller): Promise<api.ExchangeJWTResponse>
  wit(request: api.ExchangeWITRequest, caller: HttpCaller): Promise<api.ExchangeWITResponse>
}

export interface HttpCaller {
  /** Without port; empty if unknown. */
  readonly address: string
  readonly signal: AbortSignal
}

export function exchangeCalls(service: BoundService): ExchangeCalls {
  async function call<Req, Res>(
    name: string,
    [type, request]: readonly [MessageType<Req>, Req],
    response: MessageType<Res>,
    { address, signal }: HttpCaller,
  ): Promise<Res> {
    const method = service.methods.get(`/turret.exchange.v1.Exchange/${name}`)
    if (!method) throw new StatusError('UNIMPLEMENTED', `unknown method ${name}`)
    const bytes = await method.unary(type.encode(request).finish(), {
      peer: { via: 'anonymous', address },
      signal,
      header: () => [],
    })
    return response.decode(bytes)
  }
  return {
    x509: (request, caller) =>
      call('ExchangeX509', [api.ExchangeX509Request, request], api.ExchangeX509Response, caller),
    jwt: (request, caller) => call('ExchangeJWT', [api.ExchangeJWTRequest, request], api.ExchangeJWTResponse, caller),
    wit: (request, caller) => call('ExchangeWIT', [api.ExchangeWITRequest, request], api.ExchangeWITResponse, caller),
  }
}
