import type { Entry } from '../../../proto/spire/api/types.ts'
import { parseTrustDomain } from '../../core/trust-domain.ts'
import { complaining, idMessage, int32 } from '../arguments.ts'
import { type JsonObject, jsonObject } from '../json-input.ts'

/**
 * Reads the file of `-data`: `{"entries": [...]}` with the members of SPIRE's stored entries.
 * @throws CommandError
 */
export function entriesFromJson(bytes: Uint8Array): Entry[] {
  return jsonObject(bytes, 'RegistrationEntries').objects('entries').map(entryFromJson)
}

function entryFromJson(json: JsonObject): Entry {
  const attributes = json.object('additional_attributes')
  return {
    id: json.string('entry_id'),
    spiffeId: complaining('invalid SPIFFE ID', () => idMessage(json.string('spiffe_id'))),
    parentId: complaining('invalid parent ID', () => idMessage(json.string('parent_id'))),
    selectors: json
      .objects('selectors')
      .map((selector) => ({ type: selector.string('type'), value: selector.string('value') })),
    x509SvidTtl: int32(json.integer('x509_svid_ttl'), 'x509_svid_ttl'),
    jwtSvidTtl: int32(json.integer('jwt_svid_ttl'), 'jwt_svid_ttl'),
    federatesWith: complaining('invalid federated trust domain', () =>
      json.strings('federates_with').map(parseTrustDomain),
    ),
    admin: json.boolean('admin'),
    downstream: json.boolean('downstream'),
    expiresAt: json.integer('entryExpiry'),
    dnsNames: json.strings('dns_names'),
    revisionNumber: json.integer('revision_number'),
    storeSvid: json.boolean('store_svid'),
    hint: json.string('hint'),
    createdAt: json.integer('created_at'),
    additionalAttributes: attributes && {
      disableX509SvidPrefetch: attributes.boolean('disable_x509_svid_prefetch'),
      jwtSvidIncludeJti: attributes.boolean('jwt_svid_include_jti'),
    },
  }
}
