import { expect, test } from 'vitest'
import { silentLog } from '../core/log.ts'
import { bindService } from './invoke.ts'
import { type Method, unary } from './method.ts'
import type { IncomingCall } from './service.ts'

const raw = {
  encode: (bytes: Uint8Array) => ({ finish: () => bytes }),
  decode: (bytes: unknown) => bytes as Uint8Array,
}
const methods: Method<object>[] = [
  unary<object, Uint8Array, Uint8Array>({
    path: '/t.T/Limited',
    request: raw,
    response: raw,
    handle: async (_, request, call) => {
      await call.limit(1)
      return request
    },
  }),
]

test('a call that neither waits nor asks for its signal has none made', async () => {
  let asked = 0
  const call: IncomingCall = {
    peer: { via: 'anonymous', address: '192.0.2.1:1' },
    get signal() {
      asked++
      return new AbortController().signal
    },
    header: () => [],
  }
  const taken: string[] = []
  const limiter = {
    take(address: string) {
      taken.push(address)
    },
  }
  const service = bindService(
    methods,
    {},
    {
      authorize: () => ({ caller: { kind: 'anonymous' }, as: 'nobody', via: '' }),
      limiterOf: () => limiter as never,
      auditEnabled: false,
      log: silentLog,
      newRequestId: () => 'r',
    },
  )
  expect(await service.methods.get('/t.T/Limited')!.unary(Uint8Array.of(5), call)).toEqual(Uint8Array.of(5))
  expect({ taken, asked }).toEqual({ taken: ['192.0.2.1'], asked: 0 })
})
