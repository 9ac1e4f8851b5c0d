import type { CountEntriesRequest_Filter } from '../../../proto/spire/api/server/entry/v1.ts'
import type { Entry } from '../../../proto/spire/api/types.ts'
import { complaining, type IdMessage, idMessage, int32, MATCH_BEHAVIORS, selectorMessage } from '../arguments.ts'
import { CommandError } from '../failure.ts'
import { boolean, type FlagTable, type FlagValues, integer, text, texts } from '../flags.ts'

const DOWNSTREAM = 'A boolean value that, when set, indicates that the entry describes a downstream SPIRE server'

/** What `entry create` and `entry update` say of an entry. */
export const ENTRY_FLAGS = {
  parentID: text("The SPIFFE ID of this record's parent"),
  spiffeID: text('The SPIFFE ID that this record represents'),
  x509SVIDTTL: integer('The lifetime, in seconds, for x509-SVIDs issued based on this registration entry.'),
  jwtSVIDTTL: integer('The lifetime, in seconds, for JWT-SVIDs issued based on this registration entry.'),
  data: text("Path to a file containing registration JSON (optional). If set to '-', read the JSON from stdin."),
  selector: texts('A colon-delimited type:value selector. Can be used more than once'),
  federatesWith: texts('SPIFFE ID of a trust domain to federate with. Can be used more than once'),
  admin: boolean("If set, the SPIFFE ID in this entry will be granted access to the SPIRE Server's management APIs"),
  storeSVID: boolean(
    'A boolean value that, when set, indicates that the resulting issued SVID from this entry must be stored through an SVIDStore plugin',
  ),
  downstream: boolean(DOWNSTREAM),
  entryExpiry: integer('An expiry, from epoch in seconds, for the resulting registration entry to be pruned'),
  dns: texts(
    'A DNS name that will be included in SVIDs issued based on this entry, where appropriate. Can be used more than once',
  ),
  hint: text('The entry hint, used to disambiguate entries with the same SPIFFE ID'),
} as const satisfies FlagTable

export const PREFETCH_HELP = 'A boolean value that, when set, disables prefetching X509 SVID for this entry'
export const JTI_HELP =
  "A boolean value that, when set, includes a unique 'jti' claim in JWT-SVIDs issued for this entry and bypasses the agent JWT-SVID cache"

/** The checks of both commands on TTLs. */
export function requireTtls(flags: { readonly x509SVIDTTL: number; readonly jwtSVIDTTL: number }): void {
  if (flags.x509SVIDTTL < 0) throw new CommandError('a positive x509-SVID TTL is required')
  if (flags.jwtSVIDTTL < 0) throw new CommandError('a positive JWT-SVID TTL is required')
}

/** Makes the entry that the flags describe. */
export function entryOf(
  flags: FlagValues<typeof ENTRY_FLAGS>,
  id: string,
  spiffeId: IdMessage,
  parentId: IdMessage,
  attributes: { readonly disableX509SvidPrefetch: boolean; readonly jwtSvidIncludeJti: boolean },
): Entry {
  const x509SvidTtl = int32(flags.x509SVIDTTL, 'invalid value for X509 SVID TTL')
  const jwtSvidTtl = int32(flags.jwtSVIDTTL, 'invalid value for JWT SVID TTL')
  return {
    id,
    spiffeId,
    parentId,
    selectors: flags.selector.map(selectorMessage),
    x509SvidTtl,
    jwtSvidTtl,
    federatesWith: [...flags.federatesWith],
    admin: flags.admin,
    downstream: flags.downstream,
    expiresAt: flags.entryExpiry,
    dnsNames: [...flags.dns],
    revisionNumber: 0,
    storeSvid: flags.storeSVID,
    hint: flags.hint,
    createdAt: 0,
    additionalAttributes:
      attributes.disableX509SvidPrefetch || attributes.jwtSvidIncludeJti ? { ...attributes } : undefined,
  }
}

const MATCH_HELP = 'Options: exact, any, superset and subset'

/** The filters of `entry show` and `entry count`. */
export const filterFlags = (verb: 'show' | 'count') =>
  ({
    parentID: text(`The Parent ID of the records to ${verb}`),
    spiffeID: text(`The SPIFFE ID of the records to ${verb}`),
    downstream: boolean(DOWNSTREAM),
    selector: texts('A colon-delimited type:value selector. Can be used more than once'),
    federatesWith: texts('SPIFFE ID of a trust domain an entry is federate with. Can be used more than once'),
    matchFederatesWithOn: text(`The match mode used when filtering by federates with. ${MATCH_HELP}`, 'superset'),
    matchSelectorsOn: text(`The match mode used when filtering by selectors. ${MATCH_HELP}`, 'superset'),
    hint: text(`The Hint of the records to ${verb} (optional)`),
  }) as const satisfies FlagTable

/**
 * Makes the filter that the flags describe.
 * @throws CommandError in the order SPIRE checks
 */
export function entryFilter(flags: FlagValues<ReturnType<typeof filterFlags>>): CountEntriesRequest_Filter {
  const id = (what: string, value: string): IdMessage | undefined =>
    value === '' ? undefined : complaining(`error parsing ${what} ${JSON.stringify(value)}`, () => idMessage(value))
  const byParentId = id('parent ID', flags.parentID)
  const bySpiffeId = id('SPIFFE ID', flags.spiffeID)
  const bySelectors =
    flags.selector.length === 0
      ? undefined
      : {
          match: matchBehavior(flags.matchSelectorsOn),
          selectors: complaining('error parsing selectors', () => flags.selector.map(selectorMessage)),
        }
  const byFederatesWith =
    flags.federatesWith.length === 0
      ? undefined
      : { match: matchBehavior(flags.matchFederatesWithOn), trustDomains: [...flags.federatesWith] }
  return {
    byParentId,
    bySpiffeId,
    bySelectors,
    byFederatesWith,
    byHint: flags.hint === '' ? undefined : flags.hint,
    // Always sent; the server takes false for "no filter".
    byDownstream: flags.downstream,
  }
}

function matchBehavior(word: string): 0 | 1 | 2 | 3 {
  const found = Object.hasOwn(MATCH_BEHAVIORS, word) ? MATCH_BEHAVIORS[word] : undefined
  if (found === undefined) throw new CommandError(`match behavior ${JSON.stringify(word)} unknown`)
  return found
}
