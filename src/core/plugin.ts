import type { Bundle, JwtAuthority, X509Authority } from './bundle.ts'
import type { EpochSeconds } from './clock.ts'
import type { KeyType, Signer } from './key-type.ts'
import type { SpiffeId } from './spiffe-id.ts'
import type { WrappedKeyStore } from './store.ts'
import type { TrustDomain } from './trust-domain.ts'
import type { DistinguishedName } from './x509-name.ts'
import type { X509Extension } from './x509-svid.ts'

/** Makes, keeps and finds private keys by name, as SPIRE's KeyManager plugins do. */
export interface KeyManager {
  /** Makes a key and keeps it under `id`; a key already there is replaced. */
  generateKey(id: string, type: KeyType): Promise<Signer>
  getKey(id: string): Promise<Signer | undefined>
  getKeys(): Promise<ReadonlyMap<string, Signer>>
  /** What has to be done now and then: idempotent, cheap while nothing is due, safe to call late. */
  maintain?(now: EpochSeconds): Promise<void>
  /** Absent: the keys are this process's own, as are the authorities that it makes of them. */
  readonly shared?: SharedKeys
}

/** Keys that are common to several servers on one database. They are written by whoever holds the lease of rotation. */
export interface SharedKeys {
  /** Whose keys they are: servers with the same scope take turns. Empty: all servers on the database. */
  readonly scope: string
  /** The same manager, writing through a store that is guarded by a lease. */
  through(keys: WrappedKeyStore): KeyManager
  /** Whether `getKeys` last met keys that are wrapped with an older version of the key-encryption key. */
  readonly needsRewrap: boolean
  /** Wraps those anew. */
  rewrap(keys: WrappedKeyStore): Promise<void>
  /** 32 bytes that the servers know who have these keys, another secret for each purpose. Absent: there is none. */
  secret?(purpose: string): Promise<Uint8Array>
}

/** What node attestation proved. `spiffeId` lies below `/spire/agent/<type>/`. */
export interface NodeAttributes {
  readonly spiffeId: SpiffeId
  /** Without the type, which is the attestor's name. */
  readonly selectorValues: readonly string[]
  readonly canReattest: boolean
}

/**
 * The outcome of one step: the end, or a challenge. `state` is what the attestor must be given back with the response;
 * gRPC keeps it in memory, HTTP seals it and hands it to the agent. It holds everything `resume` needs.
 */
export type NodeAttestationStep =
  | { readonly attributes: NodeAttributes }
  | { readonly challenge: Uint8Array; readonly state: Uint8Array }

/** What a server-side node attestor may know of the call. */
export interface NodeAttestationContext {
  /** Address of the peer without port, empty if unknown. */
  readonly peerAddress: string
}

/** The server's half of a node attestor. Errors carry the codes and texts of SPIRE, without the plugin prefix. */
export interface NodeAttestor {
  readonly name: string
  start(payload: Uint8Array, context: NodeAttestationContext): Promise<NodeAttestationStep>
  resume(state: Uint8Array, response: Uint8Array, context: NodeAttestationContext): Promise<NodeAttestationStep>
}

/** The agent's half of a node attestor: first the payload, then one response per challenge. */
export interface AgentNodeAttestor {
  readonly name: string
  /** @param carried absent where only the server can read what is sent */
  begin(carried?: CarriedAttestation): Promise<AgentAttestation>
}

/** An attestation that somebody between agent and server may read: a secret must not go along, but proof of it that is bound to this one. */
export interface CarriedAttestation {
  readonly trustDomain: TrustDomain
  /** DER. */
  readonly csr: Uint8Array
  readonly now: EpochSeconds
}

export interface AgentAttestation {
  readonly payload: Uint8Array
  respond(challenge: Uint8Array): Promise<Uint8Array>
  /** Releases what the attestation holds (a listener, a handle); called once, at the end. */
  end?(): Promise<void>
}

/** A CA certificate that an upstream issued for our key. */
export interface UpstreamX509Ca {
  /** DER, our CA first, then intermediates; the root is not in it. */
  readonly caChain: readonly Uint8Array[]
  readonly upstreamRoots: readonly X509Authority[]
}

/** What an upstream trusts. It says nothing of a kind that it names none of. */
export type UpstreamBundle = Pick<Bundle, 'x509Authorities' | 'jwtAuthorities'> &
  Partial<Pick<Bundle, 'witAuthorities'>>

/** Signs our CA. Absent methods mean what Unimplemented means in SPIRE's plugin protocol. */
export interface UpstreamAuthority {
  readonly name: string
  /** @param csr DER PKCS#10 with the one URI SAN `spiffe://<td>` */
  mintX509Ca(csr: Uint8Array, preferredTtlSeconds: number): Promise<UpstreamX509Ca>
  /** Publishes a JWT key upstream and returns every JWT key known there, undefined if the upstream turns out to take none. */
  publishJwtKey?(key: JwtAuthority): Promise<readonly JwtAuthority[] | undefined>
  /**
   * Publishes a WIT key upstream and returns every WIT key known there, undefined if the upstream takes none: SPIRE servers
   * have no WIT keys but their own.
   */
  publishWitKey?(key: JwtAuthority): Promise<readonly JwtAuthority[] | undefined>
  /**
   * Follows the roots and keys of the upstream until the signal aborts; ends or throws when it cannot go on, and the
   * caller starts it anew. Yields the present state first.
   */
  follow?(signal: AbortSignal): AsyncIterable<UpstreamBundle>
  close?(): Promise<void>
}

/** The credentials of a process on the other end of a socket, taken when the connection was made. */
export interface PeerProcess {
  readonly pid: number
  readonly uid: number
  readonly gid: number
}

/** Tells what a process is, as selector values; the type is the attestor's name. */
export interface WorkloadAttestor {
  readonly name: string
  attest(peer: PeerProcess, signal: AbortSignal): Promise<readonly string[]>
}

/** What a certificate says besides whose it is. */
export interface X509Attributes {
  readonly subject: DistinguishedName
  /** Of SVIDs. */
  readonly dnsNames: readonly string[]
  /** OIDs of certificate policies, of CAs. */
  readonly policies: readonly string[]
  readonly extraExtensions: readonly X509Extension[]
}

/**
 * Changes what credentials say, before they are signed. Each method gets what they would say and gives what they are to say, undefined if it
 * changes nothing; what it gives is checked.
 */
export interface CredentialComposer {
  readonly name: string
  composeServerX509Ca?(attributes: X509Attributes): Promise<X509Attributes | undefined>
  composeServerX509Svid?(attributes: X509Attributes): Promise<X509Attributes | undefined>
  /** @param spki DER SubjectPublicKeyInfo */
  composeAgentX509Svid?(id: SpiffeId, spki: Uint8Array, attributes: X509Attributes): Promise<X509Attributes | undefined>
  composeWorkloadX509Svid?(
    id: SpiffeId,
    spki: Uint8Array,
    attributes: X509Attributes,
  ): Promise<X509Attributes | undefined>
  composeWorkloadJwtSvid?(
    id: SpiffeId,
    claims: Readonly<Record<string, unknown>>,
  ): Promise<Readonly<Record<string, unknown>> | undefined>
}

/** Is told of the bundle of the own trust domain, and puts it where it likes. */
export interface Notifier {
  readonly name: string
  /** Before the server serves anybody: whoever throws keeps it from starting. */
  bundleLoaded(bundle: Bundle): Promise<void>
  bundleUpdated(bundle: Bundle): Promise<void>
}

/** Puts the bundle of the own trust domain where others find it. It is told the same bundle again and again, and sees itself whether that is news. */
export interface BundlePublisher {
  readonly name: string
  publish(bundle: Bundle): Promise<void>
}

/** What a store of SVIDs is given. */
export interface StoredSvid {
  readonly spiffeId: SpiffeId
  /** DER, leaf first. */
  readonly chain: readonly Uint8Array[]
  /** PKCS#8, DER. */
  readonly privateKey: Uint8Array
  readonly expiresAt: EpochSeconds
  /** DER of the roots of the own trust domain. */
  readonly bundle: readonly Uint8Array[]
  /** Where it goes: values of the entry's selectors. */
  readonly metadata: readonly string[]
  /** Roots by ID of the trust domain, DER one after the other. */
  readonly federatedBundles: ReadonlyMap<SpiffeId, Uint8Array>
}

/** Keeps SVIDs where workloads without an agent find them. */
export interface SvidStore {
  readonly name: string
  put(svid: StoredSvid): Promise<void>
  delete(metadata: readonly string[]): Promise<void>
}
