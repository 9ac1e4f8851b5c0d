import { expect, test } from 'vitest'
import type { AttestAgentResponse } from '../proto/spire/api/server/agent/v1.ts'
import { StatusError } from '../src/core/error.ts'
import type { AgentNodeAttestor, CarriedAttestation } from '../src/core/plugin.ts'
import { generateSigner } from '../src/plugins/signer.ts'
import type { GrpcChannel } from '../src/transport/grpc-client.ts'
import { rejection } from '../test/support/server.ts'
import { makeCertificate } from '../test/support/x509.ts'
import { attestNode } from './attest.ts'

/** A server that is not to be believed, and what it was sent nevertheless. */
function impostor(overHttp: boolean) {
  const sent: string[] = []
  const refuse = async () => {
    throw new StatusError('UNAVAILABLE', "the server's answer is not to be trusted: x")
  }
  const connection: GrpcChannel = {
    overHttp,
    ...(overHttp ? { serverTime: () => 0 } : {}),
    unary: (method) => {
      sent.push(method.path)
      return refuse()
    },
    serverStream: () => {
      throw new Error('not asked for')
    },
    bidi: (method) => ({
      send: async () => {
        sent.push(method.path)
      },
      end: () => {},
      // biome-ignore lint/correctness/useYield: it has nothing to say.
      messages: (async function* () {
        await refuse()
      })(),
      cancel: () => {},
    }),
    close: () => {},
  }
  const attestor: AgentNodeAttestor = {
    name: 'join_token',
    begin: async () => {
      sent.push('token taken')
      return { payload: new Uint8Array(0), respond: async () => new Uint8Array(0) }
    },
  }
  return { sent, connection, attestor }
}

test.each([
  ['over HTTP, where its answers show who it is', true, ['/spire.api.server.bundle.v1.Bundle/GetBundle']],
  ['over gRPC after the handshake', false, ['token taken', '/spire.api.server.agent.v1.Agent/AttestAgent']],
])('a server is sent the token only if it is believed: %s', async (_, overHttp, wanted) => {
  const { sent, connection, attestor } = impostor(overHttp)
  expect(await rejection(attestNode(connection, attestor, await generateSigner('ec-p256')))).toBe(
    "UNAVAILABLE: failed to receive attestation response: rpc error: code = Unavailable desc = the server's answer is not to be trusted: x",
  )
  expect(sent).toEqual(wanted)
})

test('a server that cannot be reached is told from one that ends the stream', async () => {
  const { connection, attestor } = impostor(false)
  const text = 'connection error: desc = "transport: Error while dialing: dial tcp 127.0.0.1:1: i/o timeout"'
  const bidi: GrpcChannel['bidi'] = (...call) => ({
    ...connection.bidi(...call),
    // biome-ignore lint/correctness/useYield: it has nothing to say.
    messages: (async function* () {
      throw new StatusError('UNAVAILABLE', text)
    })(),
  })
  expect(await rejection(attestNode({ ...connection, bidi }, attestor, await generateSigner('ec-p256')))).toBe(
    `UNAVAILABLE: could not open attestation stream to SPIRE server: rpc error: code = Unavailable desc = ${text}`,
  )
})

/** A server that is believed and answers an attestation with these messages, and then with the last one again and again. */
function answering(...answers: readonly Partial<AttestAgentResponse>[]) {
  const responses: string[] = []
  const requests: unknown[] = []
  const begun: (CarriedAttestation | undefined)[] = []
  let ended = false
  let closed = false
  const connection: GrpcChannel = {
    unary: (async (_: unknown, request: unknown) => {
      requests.push(request)
      return { trustDomain: 'example.org', x509Authorities: [], jwtAuthorities: [], witAuthorities: [] }
    }) as never,
    serverStream: () => {
      throw new Error('not asked for')
    },
    bidi: () => ({
      send: async (message) => {
        const { challengeResponse } = message as { challengeResponse?: Uint8Array }
        if (challengeResponse) responses.push(new TextDecoder().decode(challengeResponse))
      },
      end: () => {
        closed = true
      },
      messages: (async function* () {
        for (let at = 0; answers.length > 0; at += 1) yield answers[Math.min(at, answers.length - 1)] as never
      })(),
      cancel: () => {},
    }),
    close: () => {},
  }
  const attestor: AgentNodeAttestor = {
    name: 'quiz',
    begin: async (carried) => {
      begun.push(carried)
      return {
        payload: new Uint8Array(0),
        respond: async (challenge) => Uint8Array.of(...challenge, 0x21),
        end: async () => {
          ended = true
        },
      }
    },
  }
  return { connection, attestor, responses, requests, begun, ended: () => ended, closed: () => closed }
}

const challenge = (text: string) => ({ challenge: new TextEncoder().encode(text) })
const { der } = await makeCertificate({ name: 'agent', uris: ['spiffe://example.org/spire/agent/quiz/a'] })
const resultOf = (...certChain: Uint8Array[]) => ({
  result: { svid: { certChain, id: undefined, expiresAt: 0, hint: '' }, reattestable: true },
})

test('challenges are answered in their order, and the result is taken', async () => {
  const { connection, attestor, responses, ended, closed, begun } = answering(
    challenge('a'),
    challenge('b'),
    resultOf(der),
  )
  const { chain, reattestable, bundle } = await attestNode(connection, attestor, await generateSigner('ec-p256'))
  expect([responses, chain, reattestable, bundle.trustDomain, ended()]).toEqual([
    ['a!', 'b!'],
    [der],
    true,
    'example.org',
    true,
  ])
  expect(closed()).toBe(true)
  expect(begun).toEqual([undefined])
})

test('over HTTP the server is asked who it is, and for nothing else; what it proves is told to the attestor', async () => {
  const { connection, attestor, requests, begun } = answering(resultOf(der))
  await attestNode({ ...connection, overHttp: true, serverTime: () => 17 }, attestor, await generateSigner('ec-p256'))
  expect(begun).toMatchObject([{ trustDomain: 'example.org', now: 17 }])
  const [{ outputMask }] = requests as [{ outputMask: Record<string, boolean> }]
  expect(Object.values(outputMask)).toEqual([false, false, false, false, false])
})

test('as many challenges are answered as there may be', async () => {
  const many = answering(...Array.from({ length: 16 }, () => challenge('a')), resultOf(der))
  await attestNode(many.connection, many.attestor, await generateSigner('ec-p256'))
  expect(many.responses).toHaveLength(16)
  const tooMany = answering(...Array.from({ length: 17 }, () => challenge('a')), resultOf(der))
  expect(await rejection(attestNode(tooMany.connection, tooMany.attestor, await generateSigner('ec-p256')))).toContain(
    'challenges without end',
  )
})

test('without the bundle nobody is attested, and the code of the refusal stays', async () => {
  const { connection, attestor, ended } = answering(resultOf(der))
  const unary = () => Promise.reject(new StatusError('PERMISSION_DENIED', 'no'))
  expect(await rejection(attestNode({ ...connection, unary }, attestor, await generateSigner('ec-p256')))).toBe(
    'PERMISSION_DENIED: failed to get updated bundle: rpc error: code = PermissionDenied desc = no',
  )
  expect(ended()).toBe(true)
})

test.each([
  [
    'challenges without end',
    [challenge('a')],
    'failed to receive attestation response: the server sends challenges without end',
  ],
  ['nothing', [], 'failed to receive attestation response: EOF'],
  ['an empty message', [{}], 'failed to receive attestation response: the message is empty'],
  [
    'no SVID',
    [{ result: { svid: undefined, reattestable: true } }],
    'failed to parse attestation response: attest response is missing SVID',
  ],
  ['an empty chain', [resultOf()], 'failed to parse attestation response: empty SVID cert chain'],
  [
    'a chain that is none',
    [resultOf(der, Uint8Array.of(1))],
    'failed to parse attestation response: invalid SVID cert chain: x509: malformed certificate',
  ],
])('a server that answers with %s attests nobody', async (_, answers, message) => {
  const { connection, attestor, responses, ended } = answering(...(answers as Partial<AttestAgentResponse>[]))
  expect(await rejection(attestNode(connection, attestor, await generateSigner('ec-p256')))).toBe(
    `INTERNAL: ${message}`,
  )
  expect(responses.length).toBeLessThan(20)
  expect(ended()).toBe(true)
})
