import { expect, test } from 'vitest'
import {
  PublishWITAuthorityRequest,
  PublishWITAuthorityResponse,
} from '../../../../proto/spire/api/server/bundle/v1.ts'
import { Bundle as WireBundle } from '../../../../proto/spire/api/types.ts'
import { StatusError } from '../../../core/error.ts'
import { silentLog } from '../../../core/log.ts'
import type { UpstreamBundle } from '../../../core/plugin.ts'
import { spireUpstreamAuthority, type UpstreamServer } from './spire.ts'

type Answers = Readonly<Record<string, (request: Uint8Array) => Uint8Array>>

/** A server above that answers in bytes, and calls nobody knows with UNIMPLEMENTED. */
function upstream(answers: Answers) {
  const server: UpstreamServer = {
    async unary(method, request) {
      const answer = answers[method.path.split('/')[2]!]
      if (!answer) throw new StatusError('UNIMPLEMENTED', 'not here')
      return method.response.decode(answer(method.request.encode(request).finish()))
    },
    // biome-ignore lint/correctness/useYield: it ends with an error before its first message.
    async *serverStream() {
      throw new StatusError('UNIMPLEMENTED', 'not here')
    },
    pollOnly: false,
    async close() {},
  }
  const wait = (_: number, signal: AbortSignal) =>
    new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
  return spireUpstreamAuthority({ server, wait, pollIntervalMs: 5000, log: silentLog })
}

const key = (keyId: string) => ({ keyId, publicKey: Uint8Array.of(1), expiresAt: 60, tainted: false })

test('a WIT key is published upstream, and all known there come back', async () => {
  const plugin = upstream({
    PublishWITAuthority(request) {
      const { witAuthority } = PublishWITAuthorityRequest.decode(request)
      return PublishWITAuthorityResponse.encode({ witAuthorities: [key('above'), witAuthority!] }).finish()
    },
  })
  expect(await plugin.publishWitKey!(key('own'))).toEqual([key('above'), key('own')])
})

test('an upstream that takes no WIT keys, as SPIRE, is no error; one that fails is', async () => {
  expect(await upstream({}).publishWitKey!(key('own'))).toBeUndefined()
  const failing = upstream({
    PublishWITAuthority() {
      throw new StatusError('PERMISSION_DENIED', 'not you')
    },
  })
  await expect(failing.publishWitKey!(key('own'))).rejects.toMatchObject({
    code: 'PERMISSION_DENIED',
    message: 'upstreamauthority(spire): failed to push WIT authority: not you',
  })
})

test('following tells WIT keys too, and news of them alone', async () => {
  const bundle: WireBundle = { ...WireBundle.decode(new Uint8Array(0)), witAuthorities: [key('a')] }
  const plugin = upstream({
    GetBundle: () => WireBundle.encode(bundle).finish(),
    PublishWITAuthority(request) {
      bundle.witAuthorities.push(PublishWITAuthorityRequest.decode(request).witAuthority!)
      return PublishWITAuthorityResponse.encode({ witAuthorities: bundle.witAuthorities }).finish()
    },
  })
  const stop = new AbortController()
  const updates: UpstreamBundle[] = []
  for await (const update of plugin.follow!(stop.signal)) {
    updates.push(update)
    if (updates.length === 2) break
    // Looks again at once, without waiting for its turn.
    setImmediate(() => plugin.publishWitKey!(key('b')))
  }
  stop.abort()
  expect(updates.map(({ witAuthorities }) => witAuthorities!.map(({ keyId }) => keyId))).toEqual([['a'], ['a', 'b']])
})

test.each([
  ['another key', { publicKey: Uint8Array.of(2) }],
  ['another end', { expiresAt: 120 }],
  ['its taint', { tainted: true }],
])('a key of the upstream with %s under the same id is news', async (_title, change) => {
  const bundle: WireBundle = { ...WireBundle.decode(new Uint8Array(0)), jwtAuthorities: [key('a')] }
  const plugin = upstream({
    GetBundle: () => WireBundle.encode(bundle).finish(),
    PublishWITAuthority: () => PublishWITAuthorityResponse.encode({ witAuthorities: [] }).finish(),
  })
  const stop = new AbortController()
  const updates: UpstreamBundle[] = []
  for await (const update of plugin.follow!(stop.signal)) {
    updates.push(update)
    if (updates.length === 2) break
    bundle.jwtAuthorities = [{ ...key('a'), ...change }]
    // Looks again at once, without waiting for its turn.
    setImmediate(() => plugin.publishWitKey!(key('b')))
  }
  stop.abort()
  expect(updates[1]!.jwtAuthorities).toEqual([{ ...key('a'), ...change }])
})
