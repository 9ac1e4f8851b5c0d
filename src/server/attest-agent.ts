import type {
  AttestAgentRequest,
  AttestAgentRequest_Params,
  AttestAgentResponse,
} from '../../proto/spire/api/server/agent/v1.ts'
import { epochSeconds } from '../core/clock.ts'
import { parseCsr, verifyCsrSignature } from '../core/csr.ts'
import { errorMessage, StatusError } from '../core/error.ts'
import { type JoinTokenProof, provenJoinToken, readJoinTokenProof } from '../core/join-token-proof.ts'
import type { NodeAttestationStep, NodeAttestor, NodeAttributes } from '../core/plugin.ts'
import { normaliseSelectors } from '../core/selector.ts'
import { pathOf, type SpiffeId, spiffeId, trustDomainOf } from '../core/spiffe-id.ts'
import { failure } from '../rpc/failure.ts'
import type { Call } from '../rpc/method.ts'
import { addressWithoutPort } from '../rpc/rate-limit.ts'
import { idToWire } from './convert.ts'
import type { ServerDeps } from './deps.ts'
import { limited, orInternal } from './outcome.ts'

const JOIN_TOKEN = 'join_token'
/** No attestor has more than one; a plugin that never ends must not hold a stream for ever. */
const MAX_CHALLENGES = 16
const MAX_CANDIDATES = 100

/**
 * Attests a node and gives it its first SVID. The CSR is read and its signature checked before anything else is decided, so
 * that a malformed one does not cost a join token (SPIRE parses it last and does not check the signature).
 */
export async function* attestAgent(
  deps: ServerDeps,
  requests: AsyncIterable<AttestAgentRequest>,
  call: Call,
): AsyncIterable<AttestAgentResponse> {
  const incoming = requests[Symbol.asyncIterator]()
  const params = await receiveParams(incoming, call)
  const { type, payload } = params.data
  if (call.audited) call.auditRequest({ node_attestor_type: type })
  const attestor = type === JOIN_TOKEN ? undefined : attestorOf(deps, type, call)
  // What could not come to anything is not counted, and who goes on from a checkpoint paid when it was made.
  if (call.resumed === undefined) await limited(call, 1, 'rejecting request due to attest agent rate limiting')
  const spki = await csrKey(deps, params.params.csr, call)

  const attributes =
    attestor === undefined
      ? await redeemJoinToken(deps, new TextDecoder().decode(payload), params.params.csr, call)
      : yield* converse(attestor, type, payload, incoming, call)

  const id = requireAgentId(deps, attributes.spiffeId, type, call)
  if (call.audited) call.auditRequest({ agent_id: id })
  const stored = await orInternal(call, 'failed to fetch agent', () => deps.store.nodes.get(id))
  if (stored !== undefined && stored.serialNumber === '') {
    throw failure(call.log, 'PERMISSION_DENIED', 'failed to attest: agent is banned')
  }
  const svid = await orInternal(call, 'failed to sign X509 SVID', () => deps.ca.signAgentX509(id, spki))
  const selectors = attributes.selectorValues.map((value) => ({ type, value }))
  if (deps.agentIdAsSelector) selectors.push({ type: 'spiffe_id', value: id })
  await orInternal(
    call,
    stored === undefined ? 'failed to create attested agent' : 'failed to update attested agent',
    () =>
      deps.store.nodes.recordAttestation({
        id,
        attestationType: type,
        serialNumber: svid.serialNumber,
        expiresAt: svid.expiresAt,
        canReattest: attributes.canReattest,
        selectors: normaliseSelectors(selectors),
      }),
  )
  call.log.info('Agent attestation request completed', {
    agent_id: id,
    node_attestor_type: type,
    address: call.peer.via === 'local' ? undefined : call.peer.address,
  })
  call.audit({})
  yield {
    result: {
      svid: { certChain: [...svid.chain], id: idToWire(id), expiresAt: svid.expiresAt, hint: '' },
      reattestable: attributes.canReattest,
    },
  }
}

/**
 * Reads the public key of an agent's CSR, whose signature proves that the caller holds the private one.
 * @throws StatusError INVALID_ARGUMENT
 */
export async function csrKey(deps: ServerDeps, der: Uint8Array, call: Call): Promise<Uint8Array> {
  let csr: ReturnType<typeof parseCsr>
  try {
    csr = parseCsr(der)
  } catch (error) {
    throw failure(call.log, 'INVALID_ARGUMENT', 'failed to parse CSR', error)
  }
  try {
    await verifyCsrSignature(csr, deps.verify)
  } catch (error) {
    throw failure(call.log, 'INVALID_ARGUMENT', 'invalid CSR signature', error)
  }
  return csr.spki
}

/** The agent ID that a join token stands for. */
export function joinTokenId(deps: ServerDeps, token: string): SpiffeId {
  return spiffeId(deps.trustDomain, `/spire/agent/${JOIN_TOKEN}/${token}`)
}

type Params = AttestAgentRequest_Params & {
  readonly data: NonNullable<AttestAgentRequest_Params['data']>
  readonly params: NonNullable<AttestAgentRequest_Params['params']>
}

async function receiveParams(incoming: AsyncIterator<AttestAgentRequest>, call: Call): Promise<Params> {
  const received = await incoming.next()
  if (received.done) {
    throw failure(call.log, 'INVALID_ARGUMENT', 'failed to receive request from stream', new Error('EOF'))
  }
  const params = received.value.params
  const complaint = complaintAbout(params)
  if (complaint !== undefined) throw failure(call.log, 'INVALID_ARGUMENT', 'malformed param', new Error(complaint))
  return params as Params
}

function complaintAbout(params: AttestAgentRequest_Params | undefined): string | undefined {
  if (params === undefined) return 'missing params'
  if (params.data === undefined) return 'missing attestation data'
  if (params.params === undefined) return 'missing X509-SVID parameters'
  if (params.params.csr.length === 0) return 'missing CSR'
  if (params.data.type === '') return 'missing attestation data type'
  if (params.data.payload.length === 0) return 'missing attestation data payload'
  return undefined
}

function attestorOf(deps: ServerDeps, type: string, call: Call): NodeAttestor {
  const attestor = deps.nodeAttestors.get(type)
  if (attestor) return attestor
  const reason = new Error(`could not find node attestor type "${type}"`)
  throw failure(call.log, 'FAILED_PRECONDITION', 'error getting node attestor', reason)
}

/** Takes a token out of the store in the statement that finds it; an expired one is gone after that, too. */
async function redeemJoinToken(
  deps: ServerDeps,
  payload: string,
  csr: Uint8Array,
  call: Call,
): Promise<NodeAttributes> {
  const proof = readJoinTokenProof(payload)
  if (!proof && call.carried && !deps.plainJoinTokens) {
    throw failure(
      call.log,
      'INVALID_ARGUMENT',
      'failed to attest: over HTTP proof of a join token is taken, not the token',
    )
  }
  const value = proof ? await provenBy(deps, proof, csr, call) : payload
  const token =
    value === undefined
      ? undefined
      : await orInternal(call, 'failed to fetch join token', () => deps.store.joinTokens.consume(value))
  if (value === undefined || token === undefined) {
    throw failure(call.log, 'INVALID_ARGUMENT', 'failed to attest: join token does not exist or has already been used')
  }
  if (token.expiresAt < epochSeconds(deps.clock)) throw failure(call.log, 'INVALID_ARGUMENT', 'join token expired')
  try {
    return { spiffeId: joinTokenId(deps, value), selectorValues: [], canReattest: false }
  } catch (error) {
    throw failure(call.log, 'INTERNAL', 'failed to create join token ID', error)
  }
}

/** The token that a proof was made with; undefined if there is none. Many of one beginning are not of ours, which are random. */
async function provenBy(
  deps: ServerDeps,
  proof: JoinTokenProof,
  csr: Uint8Array,
  call: Call,
): Promise<string | undefined> {
  const found = await orInternal(call, 'failed to fetch join token', () =>
    deps.store.joinTokens.startingWith(proof.hint, MAX_CANDIDATES),
  )
  try {
    return await provenJoinToken(proof, found, { trustDomain: deps.trustDomain, csr }, epochSeconds(deps.clock))
  } catch (error) {
    throw failure(call.log, 'INVALID_ARGUMENT', 'failed to attest', error)
  }
}

/** Carries challenges and responses between a node attestor and the agent. */
async function* converse(
  attestor: NodeAttestor,
  type: string,
  payload: Uint8Array,
  incoming: AsyncIterator<AttestAgentRequest>,
  call: Call,
): AsyncGenerator<AttestAgentResponse, NodeAttributes> {
  const peer = call.peer
  const context = { peerAddress: peer.via === 'local' ? '' : addressWithoutPort(peer.address) }
  const { resumed } = call
  let step: NodeAttestationStep =
    resumed === undefined
      ? await pluginStep(type, call, () => attestor.start(payload, context))
      : await pluginStep(type, call, async () => attestor.resume(resumed, await responseOf(incoming, call), context))
  for (let rounds = 0; 'challenge' in step; rounds++) {
    if (rounds === MAX_CHALLENGES) throw failure(call.log, 'INTERNAL', 'too many challenges')
    const { state } = step
    call.checkpoint(state)
    yield { challenge: step.challenge }
    const response = await responseOf(incoming, call)
    step = await pluginStep(type, call, () => attestor.resume(state, response, context))
  }
  return step.attributes
}

async function responseOf(incoming: AsyncIterator<AttestAgentRequest>, call: Call): Promise<Uint8Array> {
  const received = await incoming.next()
  if (received.done) throw failure(call.log, 'INTERNAL', 'failed to receive challenge from agent', new Error('EOF'))
  return received.value.challengeResponse ?? new Uint8Array(0)
}

async function pluginStep(type: string, call: Call, run: () => Promise<NodeAttestationStep>) {
  try {
    return await run()
  } catch (error) {
    if (!(error instanceof StatusError)) throw error
    throw failure(call.log, error.code, `nodeattestor(${type}): ${error.message}`)
  }
}

function requireAgentId(deps: ServerDeps, id: SpiffeId, type: string, call: Call): SpiffeId {
  if (trustDomainOf(id) !== deps.trustDomain) {
    const reason = new Error(`"${id}" is not a member of trust domain "${deps.trustDomain}"`)
    throw failure(call.log, 'INTERNAL', 'invalid agent ID', reason)
  }
  const path = pathOf(id)
  if (path === '/spire/server') throw failure(call.log, 'INTERNAL', 'agent ID cannot collide with the server ID')
  if (!path.startsWith(`/spire/agent/${type}/`)) {
    call.log.warn('The node attestor produced an invalid agent ID', {
      error: errorMessage(`"${id}" is not in the agent namespace of node attestor ${type}`),
    })
  }
  return id
}
