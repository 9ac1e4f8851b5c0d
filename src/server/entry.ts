import * as api from '../../proto/spire/api/server/entry/v1.ts'
import type { Entry, EntryMask, Status } from '../../proto/spire/api/types.ts'
import { epochSeconds } from '../core/clock.ts'
import type { Entry as CoreEntry, EntryFields } from '../core/entry.ts'
import { StatusError } from '../core/error.ts'
import { normaliseSelectors } from '../core/selector.ts'
import { requireMember, requireWorkloadId } from '../core/spiffe-id.ts'
import type { CreateEntryResult, EntryFilter, NewEntry } from '../core/store.ts'
import { parseTrustDomain } from '../core/trust-domain.ts'
import { failure } from '../rpc/failure.ts'
import type { Call, EncodedMessage } from '../rpc/method.ts'
import { authorizedEntries } from './authorized-entries.ts'
import { OK, runItem, statusOf } from './batch.ts'
import { idFromWire, matchFromWire, pageFromWire, selectorsFromWire } from './convert.ts'
import type { ServerDeps } from './deps.ts'
import { entryFieldsFromWire, entryToWire } from './entry-convert.ts'
import { entriesMessage } from './entry-writer.ts'
import { maskKind } from './kept-messages.ts'
import { codeOf, orInternal, orInvalid } from './outcome.ts'

const NOTHING = new Uint8Array(0)

export async function countEntries(deps: ServerDeps, request: api.CountEntriesRequest, call: Call) {
  const filter = filterFromWire(deps, request.filter, call)
  const count = await orInternal(call, 'failed to count entries', async () => deps.store.entries.count(filter()))
  call.audit({})
  return { count }
}

export async function listEntries(
  deps: ServerDeps,
  request: api.ListEntriesRequest,
  call: Call,
): Promise<EncodedMessage> {
  const filter = filterFromWire(deps, request.filter, call)
  const page = await orInternal(call, 'failed to list entries', async () =>
    deps.store.entries.list(filter(), pageFromWire(request), deps.entries.byId),
  )
  call.audit({})
  const tail =
    page.nextToken === ''
      ? NOTHING
      : api.ListEntriesResponse.encode({ entries: [], nextPageToken: page.nextToken }).finish()
  return entriesMessage(1, page.items, request.outputMask, tail)
}

export async function getEntry(deps: ServerDeps, request: api.GetEntryRequest, call: Call): Promise<Entry> {
  if (request.id === '') throw failure(call.log, 'INVALID_ARGUMENT', 'missing ID')
  if (call.audited) call.auditRequest({ entry_id: request.id })
  const entry = await orInternal(call, 'failed to fetch entry', () => deps.store.entries.get(request.id))
  if (entry === undefined) throw failure(call.log, 'NOT_FOUND', 'entry not found')
  call.audit({})
  return entryToWire(entry, request.outputMask)
}

export async function batchCreateEntry(deps: ServerDeps, request: api.BatchCreateEntryRequest, call: Call) {
  const planned = request.entries.map((entry) => plan(deps, entry, call))
  const created = await deps.store.entries.create(
    planned.filter((item): item is NewEntry => !(item instanceof StatusError)),
    epochSeconds(deps.clock),
  )
  let next = 0
  const results = planned.map((item, index) => {
    const result =
      item instanceof StatusError ? { status: statusOf(item) } : outcome(created[next++]!, request.outputMask, call)
    if (call.audited) auditItem(call, request.entries[index]!, result.status)
    return result
  })
  return { results } as api.BatchCreateEntryResponse
}

function plan(deps: ServerDeps, entry: Entry, call: Call): NewEntry | StatusError {
  try {
    const fields = orInvalid(call, 'failed to convert entry', () => entryFieldsFromWire(entry, deps.trustDomain))
    return { ...(fields as EntryFields), id: entry.id }
  } catch (error) {
    if (error instanceof StatusError) return error
    throw error
  }
}

function outcome(result: CreateEntryResult, mask: EntryMask | undefined, call: Call) {
  switch (result.outcome) {
    case 'created':
      return { status: OK, entry: entryToWire(sorted(result.entry), mask) }
    case 'similar':
      return {
        status: statusOf(new StatusError('ALREADY_EXISTS', 'similar entry already exists')),
        entry: entryToWire(result.entry, mask),
      }
    case 'failed': {
      const code = codeOf(result.error)
      const visible = code === 'INVALID_ARGUMENT' || code === 'ALREADY_EXISTS' ? code : 'INTERNAL'
      return { status: statusOf(failure(call.log, visible, 'failed to create entry', result.error)) }
    }
  }
}

/** As SPIRE answers a write. What is read later has the order in which it was given. */
function sorted(entry: CoreEntry): CoreEntry {
  return { ...entry, selectors: normaliseSelectors(entry.selectors), dnsNames: [...entry.dnsNames].sort() }
}

function auditItem(call: Call, entry: Entry, status: Status): void {
  const fields = { entry_id: entry.id, spiffe_id: text(entry.spiffeId), parent_id: text(entry.parentId) }
  call.audit(fields, status.code === 0 ? undefined : new Error(status.message))
}

function text(id: Entry['spiffeId']): string {
  return id === undefined ? '' : `spiffe://${id.trustDomain}${id.path}`
}

export async function batchUpdateEntry(deps: ServerDeps, request: api.BatchUpdateEntryRequest, call: Call) {
  const results: api.BatchUpdateEntryResponse_Result[] = []
  for (const entry of request.entries) {
    const { status, value } = await runItem(
      call,
      () => ({ entry_id: entry.id, spiffe_id: text(entry.spiffeId), parent_id: text(entry.parentId) }),
      async () => {
        const fields = orInvalid(call, 'failed to convert entry', () =>
          entryFieldsFromWire(entry, deps.trustDomain, request.inputMask),
        )
        try {
          return await deps.store.entries.update(entry.id, fields)
        } catch (error) {
          const code = codeOf(error)
          const visible =
            code === 'INVALID_ARGUMENT' || code === 'ALREADY_EXISTS' || code === 'NOT_FOUND' ? code : 'INTERNAL'
          throw failure(call.log, visible, 'failed to update entry', error)
        }
      },
    )
    results.push({ status, entry: value && entryToWire(sorted(value), request.outputMask) })
  }
  return { results }
}

export async function batchDeleteEntry(deps: ServerDeps, request: api.BatchDeleteEntryRequest, call: Call) {
  const results: api.BatchDeleteEntryResponse_Result[] = []
  for (const id of request.ids) {
    const { status } = await runItem(
      call,
      () => ({ entry_id: id }),
      async () => {
        if (id === '') throw failure(call.log, 'INVALID_ARGUMENT', 'missing entry ID')
        const removed = await orInternal(call, 'failed to delete entry', () => deps.store.entries.delete(id))
        if (removed === undefined) throw failure(call.log, 'NOT_FOUND', 'entry not found')
      },
    )
    results.push({ status, id })
  }
  return { results }
}

export async function getAuthorizedEntries(
  deps: ServerDeps,
  request: api.GetAuthorizedEntriesRequest,
  call: Call,
): Promise<EncodedMessage> {
  const entries: readonly CoreEntry[] = await authorizedEntries(deps, call)
  call.audit({})
  const { outputMask } = request
  const make = () => [entriesMessage(1, entries, outputMask, NOTHING)]
  return deps.keptMessages.of(entries, maskKind(outputMask), make)[0]!
}

type WireFilter = api.ListEntriesRequest_Filter

/** Checks a filter in SPIRE's order. What is left to do can only fail as a datastore would, hence the function. */
function filterFromWire(deps: ServerDeps, filter: WireFilter | undefined, call: Call): () => EntryFilter {
  if (filter === undefined) return () => ({})
  const { byParentId, bySpiffeId, bySelectors, byFederatesWith, byHint, byDownstream } = filter
  const parentId =
    byParentId &&
    orInvalid(call, 'malformed parent ID filter', () => requireMember(idFromWire(byParentId), deps.trustDomain))
  const spiffeId =
    bySpiffeId &&
    orInvalid(call, 'malformed SPIFFE ID filter', () => requireWorkloadId(idFromWire(bySpiffeId), deps.trustDomain))
  const selectors =
    bySelectors &&
    orInvalid(call, 'malformed selectors filter', () =>
      requireSome(selectorsFromWire(bySelectors.selectors), 'empty selector set'),
    )
  const trustDomains =
    byFederatesWith &&
    orInvalid(call, 'malformed federates with filter', () =>
      requireSome(byFederatesWith.trustDomains.map(parseTrustDomain), 'empty trust domain set'),
    )
  return () => ({
    ...(parentId && { parentId }),
    ...(spiffeId && { spiffeId }),
    ...(selectors && { selectors: { selectors, match: matchFromWire(bySelectors.match, 'selectors ') } }),
    ...(trustDomains && {
      federatesWith: { trustDomains, match: matchFromWire(byFederatesWith.match, 'federates with ') },
    }),
    ...(byHint && { hint: byHint }),
    ...(byDownstream !== undefined && { downstream: byDownstream }),
  })
}

function requireSome<T>(items: T[], complaint: string): T[] {
  if (items.length === 0) throw new StatusError('INVALID_ARGUMENT', complaint)
  return items
}
