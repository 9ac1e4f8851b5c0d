import type { X509SVID } from '../proto/spire/api/types.ts'
import type { Bundle } from '../src/core/bundle.ts'
import { type Certificate, parseCertificate } from '../src/core/certificate.ts'
import { type Clock, epochSeconds } from '../src/core/clock.ts'
import { createCsr } from '../src/core/csr.ts'
import { equalBytes } from '../src/core/der.ts'
import { errorMessage, STATUS_CODES, StatusError } from '../src/core/error.ts'
import { parseJwt, verifiesJwt } from '../src/core/jwt-svid.ts'
import type { KeyType, Signer } from '../src/core/key-type.ts'
import type { Log } from '../src/core/log.ts'
import { leafSpiffeId, verifyPath } from '../src/core/path-validation.ts'
import type { VerifySignature } from '../src/core/public-key.ts'
import { SVID_SUBJECT } from '../src/core/x509-svid.ts'
import type { GrpcChannel } from '../src/transport/grpc-client.ts'
import { type AgentEntry, sameTexts } from './entry.ts'
import type { JwtSvid } from './jwt-cache.ts'
import { OutdatedError } from './outdated.ts'
import { RPC_TIMEOUT_MS } from './server-connection.ts'
import { SERVER } from './server-methods.ts'
import type { WorkloadSvid } from './svid-cache.ts'
import { keyOf } from './wire.ts'

type WorkloadKey = Signer & { exportPrivateKey(): Uint8Array }

/** A new key for one SVID. Its private part is what the workload gets. */
export type NewWorkloadKey = (type: KeyType) => Promise<WorkloadKey>

const MAX_BATCH = 500

/** What an agent needs to judge what its server signed. */
export interface SigningTrust {
  /** The bundle of the own trust domain, as it is now. */
  bundle(): Bundle | undefined
  readonly clock: Clock
  readonly verify: VerifySignature
}

export interface Signed {
  /** By entry id; entries that the server did not sign, or not as asked, are missing. */
  readonly svids: ReadonlyMap<string, WorkloadSvid>
  /**
   * As asked, but with other DNS names than the entry had: its names were changed meanwhile, or the server composes its certificates in
   * its own way. Which of them shows in a sync that begins now: if the entry is the same, these are its SVIDs.
   */
  readonly unsure: ReadonlyMap<string, WorkloadSvid>
  /** Something came back that was signed for another state of an entry or of the bundle: a sync is due. */
  readonly outdated: boolean
}

/** Gets X.509-SVIDs signed: as many at once as the server takes, fewer after it failed. */
export class SvidSigning {
  readonly #newKey: NewWorkloadKey
  readonly #keyType: KeyType
  readonly #trust: SigningTrust
  readonly #log: Log
  #limit = MAX_BATCH

  constructor(newKey: NewWorkloadKey, keyType: KeyType, trust: SigningTrust, log: Log) {
    this.#newKey = newKey
    this.#keyType = keyType
    this.#trust = trust
    this.#log = log
  }

  /** How many entries the next batch may have. */
  get limit(): number {
    return this.#limit
  }

  /** Signs SVIDs with new keys. @throws StatusError */
  async sign(connection: GrpcChannel, entries: readonly AgentEntry[]): Promise<Signed> {
    const requests = await Promise.all(
      entries.map(async (entry) => {
        const key = await this.#newKey(this.#keyType)
        return { entry, key, csr: await createCsr({ subject: SVID_SUBJECT, uris: [entry.spiffeId] }, key) }
      }),
    )
    const params = requests.map(({ entry, csr }) => ({ entryId: entry.id, csr }))
    let results: Awaited<ReturnType<typeof call>>
    try {
      results = await call(connection, params)
      this.#limit = Math.min(MAX_BATCH, this.#limit * 2)
    } catch (error) {
      this.#limit = Math.max(1, Math.floor(this.#limit / 2))
      throw error
    }
    const svids = new Map<string, WorkloadSvid>()
    const unsure = new Map<string, WorkloadSvid>()
    const roots = parsedRoots(this.#trust.bundle())
    let outdated = false
    for (const [index, { entry, key }] of requests.entries()) {
      const result = results[index]
      try {
        const { code, message = '' } = result?.status ?? {}
        if (code === STATUS_CODES.NOT_FOUND) throw new OutdatedError(message)
        if (code !== 0) throw new StatusError('UNAVAILABLE', message)
        const { svid, leaf } = await this.#checked(result?.svid, entry, key, roots)
        const named = sameTexts([...new Set(leaf.dnsNames)].sort(), [...new Set(entry.dnsNames)])
        ;(named ? svids : unsure).set(entry.id, svid)
      } catch (error) {
        outdated ||= error instanceof OutdatedError
        this.#log.warn('Entry not signed', {
          entry_id: entry.id,
          spiffe_id: entry.spiffeId,
          error: errorMessage(error),
        })
      }
    }
    return { svids, unsure, outdated: outdated || unsure.size > 0 }
  }

  /**
   * What the server signed, if it is what was asked for: for the ID of the entry and no other, for the key that was sent, under a root of
   * the bundle.
   * @throws OutdatedError, StatusError
   */
  async #checked(
    signed: X509SVID | undefined,
    entry: AgentEntry,
    key: WorkloadKey,
    roots: readonly Certificate[],
  ): Promise<{ readonly svid: WorkloadSvid; readonly leaf: Certificate }> {
    const chain = signed?.certChain ?? []
    const [leaf, ...intermediates] = chain.map(parseCertificate)
    if (!leaf) throw new StatusError('INTERNAL', 'the server sent no certificate')
    const spiffeId = leafSpiffeId(leaf)
    const named = signed?.id ? `spiffe://${signed.id.trustDomain}${signed.id.path}` : spiffeId
    if (spiffeId !== entry.spiffeId || named !== spiffeId)
      throw new OutdatedError(`the server signed for "${spiffeId}"`)
    if (!equalBytes(leaf.spki, key.publicKey)) throw new StatusError('INTERNAL', 'the server signed another key')
    // A clock that is off by a little must not take identities away: whether the SVID is of use now is for who uses it.
    const at = Math.min(Math.max(epochSeconds(this.#trust.clock), leaf.notBefore), leaf.notAfter)
    let path: readonly Certificate[]
    try {
      path = await verifyPath({ leaf, intermediates, roots, at, verify: this.#trust.verify })
    } catch (error) {
      throw new OutdatedError(errorMessage(error), error)
    }
    const svid: WorkloadSvid = {
      spiffeId,
      chain,
      privateKey: key.exportPrivateKey(),
      notBefore: leaf.notBefore,
      notAfter: leaf.notAfter,
      rootKey: keyOf(path[path.length - 1]!),
      signedFor: entry,
    }
    return { svid, leaf }
  }
}

async function call(connection: GrpcChannel, params: { entryId: string; csr: Uint8Array }[]) {
  const reply = await connection.unary(SERVER.batchNewX509Svid, { params }, { timeoutMs: RPC_TIMEOUT_MS })
  return reply.results
}

const rootsOfBundles = new WeakMap<Bundle, readonly Certificate[]>()

function parsedRoots(bundle: Bundle | undefined): readonly Certificate[] {
  if (!bundle) return []
  let roots = rootsOfBundles.get(bundle)
  if (!roots) {
    roots = bundle.x509Authorities.map(({ der }) => parseCertificate(der))
    rootsOfBundles.set(bundle, roots)
  }
  return roots
}

/**
 * Gets a JWT-SVID signed, and makes sure that it is the one that was asked for: the subject is the ID of the entry, the audiences are
 * those of the request, it ends when the server says, the key is one of the bundle.
 * @throws OutdatedError, StatusError
 */
export async function signJwt(
  connection: GrpcChannel,
  entry: AgentEntry,
  audience: readonly string[],
  timeoutMs: number,
  trust: SigningTrust,
): Promise<JwtSvid> {
  const { svid } = await connection
    .unary(SERVER.newJwtSvid, { entryId: entry.id, audience: [...audience] }, { timeoutMs })
    .catch((error) => {
      if (error instanceof StatusError && error.code === 'NOT_FOUND') throw new OutdatedError(error.message, error)
      throw error
    })
  if (!svid) throw new StatusError('INTERNAL', 'JWTSVID response missing SVID')
  const { token, id, issuedAt, expiresAt } = svid
  if (issuedAt === 0) throw new StatusError('INTERNAL', 'JWTSVID response missing issued at')
  if (expiresAt === 0) throw new StatusError('INTERNAL', 'JWTSVID response missing expires at')
  if (issuedAt > expiresAt) throw new StatusError('INTERNAL', 'JWTSVID response issued after it has expired')
  const parsed = parseJwt(token)
  const { claims, keyId } = parsed
  const named = id ? `spiffe://${id.trustDomain}${id.path}` : claims.sub
  if (claims.sub !== entry.spiffeId || named !== claims.sub)
    throw new OutdatedError(`the server signed for ${JSON.stringify(claims.sub)}`)
  const audiences = typeof claims.aud === 'string' ? [claims.aud] : claims.aud
  if (!Array.isArray(audiences) || !sameMembers(audiences, audience))
    throw new StatusError('INTERNAL', 'the server signed for other audiences')
  if (claims.exp !== expiresAt) throw new StatusError('INTERNAL', 'the token ends at another time than the server says')
  const authority = trust.bundle()?.jwtAuthorities.find((one) => one.keyId === keyId)
  if (!authority || !(await verifiesJwt(parsed, authority, trust.verify)))
    throw new OutdatedError(`the server signed with key ${JSON.stringify(keyId)}, which the bundle does not have`)
  return { token, issuedAt, expiresAt, keyId }
}

function sameMembers(a: readonly unknown[], b: readonly unknown[]): boolean {
  const [inA, inB] = [new Set(a), new Set(b)]
  return inA.size === inB.size && a.every((member) => inB.has(member))
}
