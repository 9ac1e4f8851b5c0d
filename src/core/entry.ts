import type { EpochSeconds } from './clock.ts'
import type { Selector } from './selector.ts'
import type { SpiffeId } from './spiffe-id.ts'
import type { TrustDomain } from './trust-domain.ts'

/** A registration entry: processes below `parentId` that have all `selectors` get `spiffeId`. */
export interface Entry {
  readonly id: string
  readonly spiffeId: SpiffeId
  readonly parentId: SpiffeId
  /** At least one; sorted by type and value as stored. */
  readonly selectors: readonly Selector[]
  /** 0: the server's default. */
  readonly x509SvidTtlSeconds: number
  /** 0: the server's default. */
  readonly jwtSvidTtlSeconds: number
  readonly federatesWith: readonly TrustDomain[]
  readonly admin: boolean
  readonly downstream: boolean
  /** 0: never. */
  readonly expiresAt: EpochSeconds
  /** In the order they were given. */
  readonly dnsNames: readonly string[]
  readonly revisionNumber: number
  readonly storeSvid: boolean
  readonly hint: string
  readonly createdAt: EpochSeconds
  readonly disableX509SvidPrefetch: boolean
  readonly jwtSvidIncludeJti: boolean
}

/** What can be written of an entry; the rest is the server's. */
export type EntryFields = Omit<Entry, 'id' | 'revisionNumber' | 'createdAt'>
