import { expect, test } from 'vitest'
import * as api from '../../proto/spire/api/server/agent/v1.ts'
import { ANONYMOUS, incoming, LOCAL, rejection, TD, testServer } from '../../test/support/server.ts'
import { createCsr } from '../core/csr.ts'
import { StatusError } from '../core/error.ts'
import type { NodeAttestationStep, NodeAttestor } from '../core/plugin.ts'
import { parseSpiffeId, type SpiffeId, spiffeId } from '../core/spiffe-id.ts'
import { SVID_SUBJECT } from '../core/x509-svid.ts'
import { generateSigner } from '../plugins/signer.ts'

const PATH = '/spire.api.server.agent.v1.Agent/AttestAgent'
const csr = await createCsr({ subject: SVID_SUBJECT }, await generateSigner('ec-p256'))
const bytes = (text: string) => new TextEncoder().encode(text)
const text = (given: Uint8Array) => new TextDecoder().decode(given)

/** An attestor that asks this many questions, and then attests this node. */
function asking(
  questions: number,
  id: SpiffeId = spiffeId(TD, '/spire/agent/quiz/n'),
  canReattest = true,
): NodeAttestor {
  const step = (asked: number): NodeAttestationStep =>
    asked < questions
      ? { challenge: bytes(`question ${asked}`), state: bytes(String(asked)) }
      : { attributes: { spiffeId: id, selectorValues: ['b', 'a', 'b'], canReattest } }
  return {
    name: 'quiz',
    start: async () => step(0),
    resume: async (state, response) => {
      if (text(response) !== `answer to question ${text(state)}`) {
        throw new StatusError('PERMISSION_DENIED', 'wrong answer')
      }
      return step(Number(text(state)) + 1)
    },
  }
}

type Params = api.AttestAgentRequest['params']
const QUIZ = { data: { type: 'quiz', payload: bytes('x') }, params: { csr } }

/** Talks to a server as an agent that answers all questions. */
async function attest(
  attestor: NodeAttestor,
  { first = { params: QUIZ as Params }, answer = (question: string) => `answer to ${question}`, hangUp = false } = {},
) {
  const server = await testServer({ attestors: [attestor] })
  const questions: string[] = []
  let ask = Promise.withResolvers<string>()
  async function* requests() {
    yield api.AttestAgentRequest.encode(first).finish()
    while (!hangUp) {
      const question = await ask.promise
      ask = Promise.withResolvers()
      yield api.AttestAgentRequest.encode({ challengeResponse: bytes(answer(question)) }).finish()
    }
  }
  async function talk() {
    for await (const message of server.service.methods.get(PATH)!.stream(requests(), incoming(ANONYMOUS))) {
      const { challenge, result } = api.AttestAgentResponse.decode(message)
      if (result) return result
      questions.push(text(challenge!))
      ask.resolve(text(challenge!))
    }
    throw new Error('no result')
  }
  let result: Awaited<ReturnType<typeof talk>> | undefined
  const outcome = await rejection(
    talk().then((found) => {
      result = found
    }),
  )
  return {
    server,
    outcome,
    questions,
    result,
    nodes: (await server.store.nodes.list({}, { size: 0, token: '' }, true)).items,
  }
}

test('an attestor may ask sixteen questions, and one that never ends is ended', async () => {
  const most = await attest(asking(16))
  expect([most.outcome, most.questions.length]).toEqual(['OK', 16])
  const endless = await attest(asking(Number.POSITIVE_INFINITY))
  expect([endless.outcome, endless.questions.length]).toEqual(['INTERNAL: too many challenges', 16])
  expect(endless.nodes).toEqual([])
})

test('an answered challenge attests the node, with what it proved; without an answer nothing is kept', async () => {
  const good = await attest(asking(2))
  expect(good.questions).toEqual(['question 0', 'question 1'])
  expect(good.result).toMatchObject({
    reattestable: true,
    svid: { id: { trustDomain: TD, path: '/spire/agent/quiz/n' } },
  })
  expect(good.nodes).toMatchObject([
    {
      id: `spiffe://${TD}/spire/agent/quiz/n`,
      attestationType: 'quiz',
      canReattest: true,
      selectors: [
        { type: 'quiz', value: 'a' },
        { type: 'quiz', value: 'b' },
      ],
    },
  ])
  const wrong = await attest(asking(1), { answer: () => 'no idea' })
  expect([wrong.outcome, wrong.nodes]).toEqual(['PERMISSION_DENIED: nodeattestor(quiz): wrong answer', []])
  const silent = await attest(asking(1), { hangUp: true })
  expect(silent.outcome).toBe('INTERNAL: failed to receive challenge from agent: EOF')
  expect(silent.nodes).toEqual([])
})

test('whether a node can attest again is the word of its attestor', async () => {
  const { result, nodes } = await attest(asking(0, undefined, false))
  expect(result!.reattestable).toBe(false)
  expect(nodes).toMatchObject([{ canReattest: false }])
})

test.each([
  [
    'an ID of another trust domain',
    'spiffe://other.org/spire/agent/quiz/n',
    /^INTERNAL: invalid agent ID: .* is not a member/,
  ],
  ['the ID of the server', `spiffe://${TD}/spire/server`, /^INTERNAL: agent ID cannot collide with the server ID$/],
])('an attestor that gives %s attests nobody', async (_, id, message) => {
  const { outcome, nodes } = await attest(asking(0, parseSpiffeId(id)))
  expect(outcome).toMatch(message)
  expect(nodes).toEqual([])
})

const NOTHING = new Uint8Array(0)
test.each<[string, Params, RegExp]>([
  ['no params', undefined, /malformed param: missing params$/],
  ['no data', { data: undefined, params: { csr } }, /malformed param: missing attestation data$/],
  ['no CSR params', { data: QUIZ.data, params: undefined }, /malformed param: missing X509-SVID parameters$/],
  ['no CSR', { data: QUIZ.data, params: { csr: NOTHING } }, /malformed param: missing CSR$/],
  ['no type', { data: { type: '', payload: bytes('x') }, params: { csr } }, /missing attestation data type$/],
  ['no payload', { data: { type: 'quiz', payload: NOTHING }, params: { csr } }, /missing attestation data payload$/],
  [
    'an unknown type',
    { data: { type: 'none', payload: bytes('x') }, params: { csr } },
    /could not find node attestor type "none"$/,
  ],
  ['a malformed CSR', { data: QUIZ.data, params: { csr: Uint8Array.of(1) } }, /failed to parse CSR: /],
])('a request with %s attests nobody', async (_, params, message) => {
  const { outcome, nodes } = await attest(asking(0), { first: { params } })
  expect(outcome).toMatch(message)
  expect(nodes).toEqual([])
})

test('an attestor learns the address of a caller, without its port, and none of a local one', async () => {
  const seen: string[] = []
  const attestor: NodeAttestor = {
    ...asking(0),
    start: async (_, { peerAddress }) => {
      seen.push(peerAddress)
      throw new StatusError('PERMISSION_DENIED', 'no')
    },
  }
  const server = await testServer({ attestors: [attestor] })
  for (const peer of [ANONYMOUS, LOCAL]) {
    async function* requests() {
      yield api.AttestAgentRequest.encode({ params: QUIZ }).finish()
    }
    const stream = server.service.methods.get(PATH)!.stream(requests(), incoming(peer))
    expect(await rejection(stream[Symbol.asyncIterator]().next())).toBe('PERMISSION_DENIED: nodeattestor(quiz): no')
  }
  expect(seen).toEqual(['192.0.2.1', ''])
})

test('an attestor that fails tells strangers nothing of how', async () => {
  const attestor = { ...asking(0), start: () => Promise.reject(new TypeError('secret')) }
  const { outcome, nodes } = await attest(attestor)
  expect([outcome, nodes]).toEqual(['INTERNAL: internal error', []])
})

test('without a word nobody is attested', async () => {
  const server = await testServer({ attestors: [asking(0)] })
  async function* requests(): AsyncGenerator<Uint8Array> {}
  const stream = server.service.methods.get(PATH)!.stream(requests(), incoming(ANONYMOUS))
  expect(await rejection(stream[Symbol.asyncIterator]().next())).toBe(
    'INVALID_ARGUMENT: failed to receive request from stream: EOF',
  )
})

test('where agents have their ID as a selector, it is theirs', async () => {
  const server = await testServer({ attestors: [asking(0)] })
  ;(server.deps as { agentIdAsSelector: boolean }).agentIdAsSelector = true
  async function* requests() {
    yield api.AttestAgentRequest.encode({ params: QUIZ }).finish()
  }
  for await (const _ of server.service.methods.get(PATH)!.stream(requests(), incoming(ANONYMOUS)));
  const id = spiffeId(TD, '/spire/agent/quiz/n')
  expect((await server.store.nodes.get(id))!.selectors).toContainEqual({ type: 'spiffe_id', value: id })
})

test('who goes on from a checkpoint answers the question that was kept there', async () => {
  const server = await testServer({ attestors: [asking(1)] })
  const method = server.service.methods.get(PATH)!
  let kept: Uint8Array | undefined
  const keep = (state: Uint8Array) => {
    kept = state
  }
  const first = method.stream(
    (async function* () {
      yield api.AttestAgentRequest.encode({ params: QUIZ }).finish()
      await new Promise(() => {})
    })(),
    { ...incoming(ANONYMOUS), checkpoint: keep },
  )
  await first[Symbol.asyncIterator]().next()
  const resume = async (answer: string) => {
    async function* requests() {
      yield api.AttestAgentRequest.encode({ params: QUIZ }).finish()
      yield api.AttestAgentRequest.encode({ challengeResponse: bytes(answer) }).finish()
    }
    for await (const message of method.stream(requests(), { ...incoming(ANONYMOUS), resumed: kept! }))
      return api.AttestAgentResponse.decode(message).result
    return undefined
  }
  expect(await rejection(resume('no idea'))).toBe('PERMISSION_DENIED: nodeattestor(quiz): wrong answer')
  expect((await resume('answer to question 0'))?.svid?.id?.path).toBe('/spire/agent/quiz/n')
})

test('calls that could not come to anything are not counted, and nobody waits behind more than five seconds of others', async () => {
  const waits: number[] = []
  const server = await testServer({
    attestors: [asking(0)],
    wait: async (ms) => void waits.push(ms),
  })
  const send = (params: Params) => {
    async function* requests() {
      yield api.AttestAgentRequest.encode({ params }).finish()
    }
    const talk = async () => {
      for await (const _ of server.service.methods.get(PATH)!.stream(requests(), incoming(ANONYMOUS))) return
    }
    return rejection(talk())
  }
  for (let count = 0; count < 20; count++) {
    expect(await send(undefined)).toMatch(/^INVALID_ARGUMENT: malformed param/)
    expect(await send({ ...QUIZ, data: { type: 'nothing', payload: bytes('x') } })).toMatch(/^FAILED_PRECONDITION: /)
  }
  for (let count = 0; count < 6; count++) expect(await send(QUIZ)).toBe('OK')
  expect(waits).toEqual([1000, 2000, 3000, 4000, 5000])
  expect(await send(QUIZ)).toMatch(/^RESOURCE_EXHAUSTED: rejecting request due to attest agent rate limiting/)
})

test('an agent that can attests again, until it is banned', async () => {
  const server = await testServer({ attestors: [asking(0)] })
  const once = async () => {
    async function* requests() {
      yield api.AttestAgentRequest.encode({ params: QUIZ }).finish()
    }
    for await (const message of server.service.methods.get(PATH)!.stream(requests(), incoming(ANONYMOUS)))
      return api.AttestAgentResponse.decode(message).result
    return undefined
  }
  const id = spiffeId(TD, '/spire/agent/quiz/n')
  expect(await once()).toBeDefined()
  const first = (await server.store.nodes.get(id))!.serialNumber
  expect(await once()).toBeDefined()
  expect((await server.store.nodes.get(id))!.serialNumber).not.toBe(first)
  await server.store.nodes.ban(id)
  expect(await rejection(once())).toBe('PERMISSION_DENIED: failed to attest: agent is banned')
})
