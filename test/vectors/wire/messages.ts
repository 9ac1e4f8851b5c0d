import { ValidateJWTSVIDResponse, X509SVIDResponse } from '../../../proto/spiffe/workload.ts'
import { AttestAgentRequest, ListAgentsRequest } from '../../../proto/spire/api/server/agent/v1.ts'
import { AppendBundleRequest, BatchSetFederatedBundleRequest } from '../../../proto/spire/api/server/bundle/v1.ts'
import {
  BatchCreateEntryRequest,
  ListEntriesRequest,
  SyncAuthorizedEntriesResponse,
} from '../../../proto/spire/api/server/entry/v1.ts'
import { BatchNewX509SVIDResponse } from '../../../proto/spire/api/server/svid/v1.ts'
import { BatchCreateFederationRelationshipRequest } from '../../../proto/spire/api/server/trustdomain/v1.ts'
import { SPIFFEID } from '../../../proto/spire/api/types.ts'

/** Messages with all that messages have: every scalar, lists, maps, oneofs, wrappers, google.protobuf.Struct. */
export const MESSAGES: Readonly<Record<string, { decode(bytes: Uint8Array): object }>> = {
  'spire.api.types.SPIFFEID': SPIFFEID,
  'spire.api.server.agent.v1.AttestAgentRequest': AttestAgentRequest,
  'spire.api.server.agent.v1.ListAgentsRequest': ListAgentsRequest,
  'spire.api.server.bundle.v1.AppendBundleRequest': AppendBundleRequest,
  'spire.api.server.bundle.v1.BatchSetFederatedBundleRequest': BatchSetFederatedBundleRequest,
  'spire.api.server.entry.v1.BatchCreateEntryRequest': BatchCreateEntryRequest,
  'spire.api.server.entry.v1.ListEntriesRequest': ListEntriesRequest,
  'spire.api.server.entry.v1.SyncAuthorizedEntriesResponse': SyncAuthorizedEntriesResponse,
  'spire.api.server.svid.v1.BatchNewX509SVIDResponse': BatchNewX509SVIDResponse,
  'spire.api.server.trustdomain.v1.BatchCreateFederationRelationshipRequest': BatchCreateFederationRelationshipRequest,
  X509SVIDResponse,
  ValidateJWTSVIDResponse,
}

export interface Case {
  readonly type: string
  readonly bytes: Uint8Array
}

/**
 * Whether we make of a message what protobuf for Go makes of it.
 * @param verdict `ok` and the message as Go writes it again, in hex; or `no` and Go's text
 * @returns what is different; undefined if nothing is
 */
export function difference({ type, bytes }: Case, verdict: string): string | undefined {
  const ours = read(type, bytes)
  // Known: they are times and counters.
  if (ours === 'no proto: integer is beyond 2^53') return undefined
  const theirs = verdict.startsWith('ok') ? read(type, fromHex(verdict.slice(3))) : verdict
  return ours === theirs ? undefined : `Go: ${theirs}\nours: ${ours}`
}

function read(type: string, bytes: Uint8Array): string {
  try {
    return `ok ${JSON.stringify(MESSAGES[type]!.decode(bytes), plain)}`
  } catch (error) {
    return `no ${(error as Error).message}`
  }
}

/** Bytes and numbers in full, maps by key. */
function plain(_: string, value: unknown): unknown {
  if (value instanceof Uint8Array) return { hex: toHex(value) }
  if (typeof value === 'number' && (!Number.isFinite(value) || Object.is(value, -0))) {
    return Object.is(value, -0) ? '-0' : String(value)
  }
  if (value === undefined) return 'undefined'
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
}

export function toHex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')
}

export function fromHex(hex: string): Uint8Array {
  return Uint8Array.from(hex.replaceAll(' ', '').match(/../g) ?? [], (byte) => Number.parseInt(byte, 16))
}
