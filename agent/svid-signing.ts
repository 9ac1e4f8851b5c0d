import { parseCertificate } from '../src/core/certificate.ts'
import { createCsr } from '../src/core/csr.ts'
import { StatusError } from '../src/core/error.ts'
import { parseJwt } from '../src/core/jwt-svid.ts'
import type { KeyType, Signer } from '../src/core/key-type.ts'
import type { Log } from '../src/core/log.ts'
import { issuingKeyId } from '../src/core/path-validation.ts'
import { SVID_SUBJECT } from '../src/core/x509-svid.ts'
import type { GrpcChannel } from '../src/transport/grpc-client.ts'
import type { AgentEntry } from './entry.ts'
import type { JwtSvid } from './jwt-cache.ts'
import { RPC_TIMEOUT_MS } from './server-connection.ts'
import { SERVER } from './server-methods.ts'
import type { WorkloadSvid } from './svid-cache.ts'

/** A new key for one SVID. Its private part is what the workload gets. */
export type NewWorkloadKey = (type: KeyType) => Promise<Signer & { exportPrivateKey(): Uint8Array }>

const MAX_BATCH = 500

/** Gets X.509-SVIDs signed: as many at once as the server takes, fewer after it failed. */
export class SvidSigning {
  readonly #newKey: NewWorkloadKey
  readonly #keyType: KeyType
  readonly #log: Log
  #limit = MAX_BATCH

  constructor(newKey: NewWorkloadKey, keyType: KeyType, log: Log) {
    this.#newKey = newKey
    this.#keyType = keyType
    this.#log = log
  }

  /** How many entries the next batch may have. */
  get limit(): number {
    return this.#limit
  }

  /** Signs SVIDs with new keys. Entries that the server did not sign are missing in the result. @throws StatusError */
  async sign(connection: GrpcChannel, entries: readonly AgentEntry[]): Promise<ReadonlyMap<string, WorkloadSvid>> {
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
    for (const [index, { entry, key }] of requests.entries()) {
      const result = results[index]
      const chain = result?.svid?.certChain ?? []
      if (result?.status?.code !== 0 || chain.length === 0) {
        this.#log.warn('Entry not signed', {
          entry_id: entry.id,
          spiffe_id: entry.spiffeId,
          error: result?.status?.message ?? '',
        })
        continue
      }
      const leaf = parseCertificate(chain[0]!)
      svids.set(entry.id, {
        chain,
        privateKey: key.exportPrivateKey(),
        notBefore: leaf.notBefore,
        notAfter: leaf.notAfter,
        rootKeyId: issuingKeyId(chain.length === 1 ? leaf : parseCertificate(chain[chain.length - 1]!)),
        revisionNumber: entry.revisionNumber,
      })
    }
    return svids
  }
}

async function call(connection: GrpcChannel, params: { entryId: string; csr: Uint8Array }[]) {
  const reply = await connection.unary(SERVER.batchNewX509Svid, { params }, { timeoutMs: RPC_TIMEOUT_MS })
  return reply.results
}

/** Gets a JWT-SVID signed. @throws StatusError */
export async function signJwt(
  connection: GrpcChannel,
  entry: AgentEntry,
  audience: readonly string[],
  timeoutMs: number,
): Promise<JwtSvid> {
  const { svid } = await connection.unary(
    SERVER.newJwtSvid,
    { entryId: entry.id, audience: [...audience] },
    { timeoutMs },
  )
  if (!svid) throw new StatusError('INTERNAL', 'JWTSVID response missing SVID')
  if (svid.issuedAt === 0) throw new StatusError('INTERNAL', 'JWTSVID response missing issued at')
  if (svid.expiresAt === 0) throw new StatusError('INTERNAL', 'JWTSVID response missing expires at')
  if (svid.issuedAt > svid.expiresAt) throw new StatusError('INTERNAL', 'JWTSVID response issued after it has expired')
  return { token: svid.token, issuedAt: svid.issuedAt, expiresAt: svid.expiresAt, keyId: parseJwt(svid.token).keyId }
}
