import type { Bundle, JwtAuthority } from '../core/bundle.ts'
import type { Clock } from '../core/clock.ts'
import type { Entry } from '../core/entry.ts'
import type { LogLevel } from '../core/log.ts'
import type { AttestedNode } from '../core/node.ts'
import type { NodeAttestor } from '../core/plugin.ts'
import type { VerifySignature } from '../core/public-key.ts'
import type { Selector } from '../core/selector.ts'
import type { SpiffeId } from '../core/spiffe-id.ts'
import type { Store } from '../core/store.ts'
import type { TrustDomain } from '../core/trust-domain.ts'
import type { Ca, JwtKey, X509Ca } from './ca.ts'
import type { ChangeTail } from './change-tail.ts'
import type { VerifiableSource } from './exchange/source.ts'
import type { KeptMessages } from './kept-messages.ts'
import type { OwnBundle } from './own-bundle.ts'
import type { Slots } from './slots.ts'

/** Finds entries; an index kept by the change log on Node, SQL at the edge. */
export interface EntryLookup {
  /** All of them, where they are in memory. */
  readonly byId?: ReadonlyMap<string, Entry> | undefined
  entriesFor(agentId: SpiffeId, selectors: readonly Selector[]): readonly Entry[] | Promise<readonly Entry[]>
  bySpiffeId(id: SpiffeId): readonly Entry[] | Promise<readonly Entry[]>
}

/** Finds attested nodes. */
export interface NodeLookup {
  get(id: SpiffeId): AttestedNode | undefined | Promise<AttestedNode | undefined>
}

/** Turns the level of the process's log while it runs. */
export interface LogControl {
  readonly launchLevel: LogLevel
  level: LogLevel
}

/** The authorities of this server (or of all replicas that share its keys), as an administrator changes them; see CaManager. */
export interface LocalAuthorities {
  readonly x509Slots: Slots<X509Ca>
  readonly jwtSlots: Slots<JwtKey>
  readonly hasUpstream: boolean
  /** Takes over what other replicas changed. */
  refresh(): Promise<void>
  prepareX509(): Promise<void>
  prepareJwt(): Promise<void>
  activateX509(authorityId: string): Promise<void>
  activateJwt(authorityId: string): Promise<void>
  announceTaint(keyIds: readonly string[]): void
}

/** What all services of the server are given. */
export interface ServerDeps {
  readonly trustDomain: TrustDomain
  readonly adminIds: ReadonlySet<SpiffeId>
  readonly clock: Clock
  readonly store: Store
  readonly ca: Ca
  readonly bundle: OwnBundle
  readonly entries: EntryLookup
  readonly nodes: NodeLookup
  readonly keptMessages: KeptMessages
  /** Only where this process is told of every write, its own and those of others. */
  readonly changeTail?: ChangeTail
  readonly verify: VerifySignature
  /** Whose tokens are exchanged for SVIDs. */
  readonly exchange: readonly VerifiableSource[]
  /** By name, without join_token. */
  readonly nodeAttestors: ReadonlyMap<string, NodeAttestor>
  /** Join tokens themselves are taken over HTTP, too, where whoever ends TLS can take them; default false. */
  readonly plainJoinTokens?: boolean | undefined
  readonly jwtSvidsEnabled: boolean
  /** The feature flag `wit-svid`. */
  readonly witSvidsEnabled: boolean
  /** `experimental.agent_spiffe_id_as_selector`. */
  readonly agentIdAsSelector: boolean
  /** Publishes a key of a server below: upstream if there is one, else into the own bundle. Returns all JWT keys. */
  publishJwtKey(key: JwtAuthority): Promise<readonly JwtAuthority[]>
  /** The same for a WIT key. */
  publishWitKey(key: JwtAuthority): Promise<readonly JwtAuthority[]>
  /** The server's own authorities; absent where there are none to be looked after. */
  readonly authorities?: LocalAuthorities
  /** Told after authorities were appended by hand, so that bundle publishers run. */
  bundleChanged?(bundle: Bundle): void
  /** Fetches the bundle of a federated trust domain now. False: there is no relationship with it. */
  refreshBundle?(trustDomain: TrustDomain): Promise<boolean>
  readonly startedAtMs: number
  /** The server's own SVID, leaf first, with the root it verifies to; DER. */
  serverSvidChain(): Promise<readonly Uint8Array[]>
  readonly logControl?: LogControl
  newUuid(): string
}
