import { expect, test } from 'vitest'
import { StatusError } from '../src/core/error.ts'
import type { AgentNodeAttestor } from '../src/core/plugin.ts'
import { generateSigner } from '../src/plugins/signer.ts'
import type { GrpcChannel } from '../src/transport/grpc-client.ts'
import { rejection } from '../test/support/server.ts'
import { attestNode } from './attest.ts'

/** A server that is not to be believed, and what it was sent nevertheless. */
function impostor(overHttp: boolean) {
  const sent: string[] = []
  const refuse = async () => {
    throw new StatusError('UNAVAILABLE', "the server's answer is not to be trusted: x")
  }
  const connection: GrpcChannel = {
    overHttp,
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
    "UNAVAILABLE: failed to receive attestation response: the server's answer is not to be trusted: x",
  )
  expect(sent).toEqual(wanted)
})
