import { parseCertificate } from '../../src/core/certificate.ts'
import type { Clock } from '../../src/core/clock.ts'
import { hex } from '../../src/core/der.ts'
import { validateJwtSvid } from '../../src/core/jwt-svid.ts'
import { silentLog } from '../../src/core/log.ts'
import { verifyX509Svid } from '../../src/core/path-validation.ts'
import type { KeyManager, UpstreamAuthority } from '../../src/core/plugin.ts'
import { parseSpiffeId } from '../../src/core/spiffe-id.ts'
import type { Store, WrappedKeyStore } from '../../src/core/store.ts'
import { parseTrustDomainName } from '../../src/core/trust-domain.ts'
import { databaseKeyManager } from '../../src/plugins/keymanager/database/database.ts'
import { generateSigner, importSigner, nodeVerifier } from '../../src/plugins/signer.ts'
import { Ca } from '../../src/server/ca.ts'
import { type AuthorityStore, CaManager } from '../../src/server/ca-manager.ts'
import { openLibsqlStore } from '../../src/store/libsql.ts'

export const trustDomain = parseTrustDomainName('example.org')
export const DAY = 86400
export const START = 1_800_000_000
export const verify = nodeVerifier()
export const id = parseSpiffeId('spiffe://example.org/w')
export const workloadKey = (await generateSigner('ec-p256')).publicKey
export const kek = { version: '1', key: new Uint8Array(32).fill(1) }

/** Opens the one database that a world is about. */
export type OpenStore = (clock: Clock) => Promise<Store>

/**
 * One database, one clock, and as many replicas on them as are asked for.
 * @param open each replica opens the database for itself, as a process of its own would; all use one in memory unless given
 */
export async function world(open?: OpenStore) {
  const time = { now: START }
  const clock = { nowMs: () => time.now * 1000 }
  const store = open ? await open(clock) : await openLibsqlStore({ log: silentLog, clock })

  async function replica(
    changes: {
      store?: AuthorityStore
      keks?: (typeof kek)[]
      upstream?: UpstreamAuthority
      keyManager?: KeyManager
    } = {},
  ) {
    const own = changes.store ?? (open ? await open(clock) : store)
    const keyManager =
      changes.keyManager ??
      (await databaseKeyManager({
        trustDomain,
        keys: own.keys as WrappedKeyStore,
        keks: changes.keks ?? [kek],
        importKey: (pkcs8) => importSigner(pkcs8),
      }))
    const ca = newCa(clock)
    const manager = await CaManager.load(OPTIONS, {
      store: own,
      keyManager,
      ...(changes.upstream ? { upstream: changes.upstream } : {}),
      ca,
      verify,
      clock,
      random,
      log: silentLog,
    })
    return { ca, manager }
  }

  const bundle = async () => (await store.bundles.get(trustDomain))!
  /** Authorities that have not ended. */
  const living = async () => {
    const { x509Authorities, jwtAuthorities, witAuthorities } = await bundle()
    return {
      x509: x509Authorities.map(({ der }) => parseCertificate(der)).filter(({ notAfter }) => notAfter >= time.now),
      jwt: jwtAuthorities.filter(({ expiresAt }) => expiresAt >= time.now),
      wit: witAuthorities.filter(({ expiresAt }) => expiresAt >= time.now),
    }
  }
  /** Signs with a replica, sees that it verifies, and says which authorities signed. */
  async function sign(ca: Ca) {
    const { chain } = await ca.signWorkloadX509({ id, spki: workloadKey, ttlSeconds: 60 })
    const { x509Authorities, jwtAuthorities } = await bundle()
    const roots = x509Authorities.map(({ der }) => parseCertificate(der))
    await verifyX509Svid({ chain, rootsOf: () => roots, at: time.now, verify })
    const { token } = await ca.signJwt({ id, audience: ['a'], ttlSeconds: 60 })
    const authoritiesOf = () => jwtAuthorities
    await validateJwtSvid({ token, audience: ['a'], authoritiesOf, at: time.now, verify })
    return hex(parseCertificate(chain[0]!).authorityKeyId!)
  }
  return { time, clock, store, replica, bundle, living, sign }
}

export const OPTIONS = {
  trustDomain,
  caTtlSeconds: DAY,
  caKeyType: 'ec-p256',
  jwtKeyType: 'ec-p256',
  witKeyType: 'ec-p256',
  caSubject: { organization: ['SPIFFE'] },
  disableJwtSvids: false,
} as const

export const random = (bytes: Uint8Array) => crypto.getRandomValues(bytes as Uint8Array<ArrayBuffer>)

export function newCa(clock: { nowMs(): number }): Ca {
  return new Ca({
    trustDomain,
    x509SvidTtlSeconds: 3600,
    jwtSvidTtlSeconds: 300,
    agentTtlSeconds: 3600,
    caTtlSeconds: DAY,
    clock,
    random,
  })
}
