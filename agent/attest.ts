import type { AttestAgentResponse } from '../proto/spire/api/server/agent/v1.ts'
import type { X509SVID } from '../proto/spire/api/types.ts'
import type { Bundle } from '../src/core/bundle.ts'
import { parseCertificate } from '../src/core/certificate.ts'
import type { EpochSeconds } from '../src/core/clock.ts'
import { createCsr } from '../src/core/csr.ts'
import { StatusError, wrapError } from '../src/core/error.ts'
import type { Signer } from '../src/core/key-type.ts'
import type { AgentNodeAttestor, CarriedAttestation } from '../src/core/plugin.ts'
import { parseTrustDomain } from '../src/core/trust-domain.ts'
import { SVID_SUBJECT } from '../src/core/x509-svid.ts'
import { rpcErrorText } from '../src/rpc/status-text.ts'
import type { BidiCall, GrpcChannel } from '../src/transport/grpc-client.ts'
import { RPC_TIMEOUT_MS } from './server-connection.ts'
import { SERVER } from './server-methods.ts'
import { parseBundle } from './wire.ts'

export interface AttestationResult {
  /** DER, leaf first. */
  readonly chain: readonly Uint8Array[]
  readonly reattestable: boolean
  readonly bundle: Bundle
}

const MAX_CHALLENGES = 16

/**
 * Proves the node to the server and gets the agent's SVID for a key, then the bundle over the same connection.
 *
 * @param connection without client certificate
 * @throws StatusError with the server's code, or INTERNAL for an answer that makes no sense
 * @see agent.md 4
 */
export async function attestNode(
  connection: GrpcChannel,
  attestor: AgentNodeAttestor,
  key: Signer,
): Promise<AttestationResult> {
  const csr = await createCsr({ subject: SVID_SUBJECT }, key)
  const attestation = await attestor.begin(
    connection.serverTime && (await believe(connection, csr, connection.serverTime)),
  )
  try {
    const call = connection.bidi(SERVER.attestAgent, { timeoutMs: RPC_TIMEOUT_MS })
    await call.send({ params: { data: { type: attestor.name, payload: attestation.payload }, params: { csr } } })
    const result = await answer(call, (challenge) => attestation.respond(challenge))
    call.end()
    const chain = chainOf(result.svid)
    const bundle = await connection
      .unary(SERVER.getBundle, { outputMask: undefined }, { timeoutMs: RPC_TIMEOUT_MS })
      .catch((error) => Promise.reject(rewrap('failed to get updated bundle', error)))
    return { chain, reattestable: result.reattestable, bundle: parseBundle(bundle) }
  } finally {
    await attestation.end?.()
  }
}

const NOTHING = {
  x509Authorities: false,
  jwtAuthorities: false,
  refreshHint: false,
  sequenceNumber: false,
  witAuthorities: false,
}

/**
 * Asks for nothing: over HTTP only its answers show who the server is, and a token must not be spent on one that we do not believe,
 * because it is another one or our clock is wrong.
 */
async function believe(
  connection: GrpcChannel,
  csr: Uint8Array,
  serverTime: () => EpochSeconds,
): Promise<CarriedAttestation> {
  const { trustDomain } = await connection
    .unary(SERVER.getBundle, { outputMask: NOTHING }, { timeoutMs: RPC_TIMEOUT_MS })
    .catch((error) => Promise.reject(unanswered(error)))
  return { trustDomain: parseTrustDomain(trustDomain), csr, now: serverTime() }
}

type Result = NonNullable<AttestAgentResponse['result']>

async function answer(
  call: BidiCall<{ challengeResponse?: Uint8Array }, AttestAgentResponse>,
  respond: (challenge: Uint8Array) => Promise<Uint8Array>,
): Promise<Result> {
  const messages = call.messages[Symbol.asyncIterator]()
  for (let round = 0; round <= MAX_CHALLENGES; round += 1) {
    const next = await messages.next().catch((error) => Promise.reject(unanswered(error)))
    if (next.done) throw new StatusError('INTERNAL', 'failed to receive attestation response: EOF')
    if (next.value.result) return next.value.result
    if (!next.value.challenge)
      throw new StatusError('INTERNAL', 'failed to receive attestation response: the message is empty')
    await call.send({ challengeResponse: await respond(next.value.challenge) })
  }
  throw new StatusError('INTERNAL', 'failed to receive attestation response: the server sends challenges without end')
}

/** @throws StatusError INTERNAL if the server's answer holds no usable chain */
export function chainOf(svid: X509SVID | undefined): readonly Uint8Array[] {
  const problem = !svid
    ? 'attest response is missing SVID'
    : svid.certChain.length === 0
      ? 'empty SVID cert chain'
      : undefined
  if (problem) throw new StatusError('INTERNAL', `failed to parse attestation response: ${problem}`)
  try {
    for (const der of svid!.certChain) parseCertificate(der)
  } catch (error) {
    throw wrapError('INTERNAL', 'failed to parse attestation response: invalid SVID cert chain', error)
  }
  return svid!.certChain
}

/** Keeps the code, so that PermissionDenied stays final, and the details. */
function rewrap(message: string, error: unknown): StatusError {
  if (!(error instanceof StatusError)) return wrapError('UNKNOWN', message, error)
  return new StatusError(error.code, `${message}: ${rpcErrorText(error)}`, { cause: error, details: error.details })
}

/** In Go a stream opens once there is a connection; here the first message tells that there is none. */
function unanswered(error: unknown): StatusError {
  const unconnected = error instanceof StatusError && error.message.startsWith('connection error: ')
  return rewrap(
    unconnected ? 'could not open attestation stream to SPIRE server' : 'failed to receive attestation response',
    error,
  )
}
