import type { Bundle } from '../../core/bundle.ts'
import type { SpiffeId } from '../../core/spiffe-id.ts'
import type { FederationRelationship, RelationshipStore } from '../../core/store.ts'
import type { TrustDomain } from '../../core/trust-domain.ts'
import { type Database, type Decision, type Row, recordNotFound, type SqlDriver, uniqueViolation } from '../database.ts'
import { bundleChange, setBundle } from './bundles.ts'
import { Conditions, paged, pageStatement } from './paging.ts'

const SELECT = `SELECT id, trust_domain, bundle_endpoint_url, bundle_endpoint_profile, endpoint_spiffe_id
  FROM federated_trust_domains`
const INSERT = `INSERT INTO federated_trust_domains
  (trust_domain, bundle_endpoint_url, bundle_endpoint_profile, endpoint_spiffe_id) VALUES (?1, ?2, ?3, ?4)`
const UPDATE = `UPDATE federated_trust_domains
  SET bundle_endpoint_url = ?2, bundle_endpoint_profile = ?3, endpoint_spiffe_id = ?4 WHERE trust_domain = ?1`

/** With whom this trust domain federates, and where their bundles are. */
export function relationshipStore(database: Database): RelationshipStore {
  return {
    get: (trustDomain) => find(database.run, trustDomain),

    async list(page) {
      return paged(await database.run(pageStatement(SELECT, new Conditions(), page, 'id')), page, decode)
    },

    create: (relationship, bundle) =>
      database.write(async (run) => {
        if (await find(run, relationship.trustDomain)) throw uniqueViolation('federated_trust_domains.trust_domain')
        return store(INSERT, relationship, bundle)
      }),

    update: (relationship, bundle) =>
      database.write(async (run) => {
        if (!(await find(run, relationship.trustDomain))) throw recordNotFound()
        return store(UPDATE, relationship, bundle)
      }),

    delete: (trustDomain) =>
      database.write(async (run) => {
        if (!(await find(run, trustDomain))) throw recordNotFound()
        return {
          statements: [{ sql: 'DELETE FROM federated_trust_domains WHERE trust_domain = ?1', args: [trustDomain] }],
          changes: [{ kind: 'relationship', key: trustDomain }],
          result: undefined,
        }
      }),
  }
}

function store(sql: string, relationship: FederationRelationship, bundle: Bundle | undefined): Decision<void> {
  const { trustDomain, bundleEndpointUrl, profile } = relationship
  const endpointId = profile.type === 'https_spiffe' ? profile.endpointSpiffeId : ''
  const args = [trustDomain, bundleEndpointUrl, profile.type, endpointId]
  return {
    statements: [{ sql, args }, ...(bundle ? [setBundle(bundle)] : [])],
    changes: [{ kind: 'relationship', key: trustDomain }, ...(bundle ? [bundleChange(bundle)] : [])],
    result: undefined,
  }
}

async function find(run: SqlDriver['run'], trustDomain: TrustDomain): Promise<FederationRelationship | undefined> {
  const [row] = await run({ sql: `${SELECT} WHERE trust_domain = ?1`, args: [trustDomain] })
  return row && decode(row)
}

function decode(row: Row): FederationRelationship {
  return {
    trustDomain: row.trust_domain as TrustDomain,
    bundleEndpointUrl: row.bundle_endpoint_url as string,
    profile:
      row.bundle_endpoint_profile === 'https_spiffe'
        ? { type: 'https_spiffe', endpointSpiffeId: row.endpoint_spiffe_id as SpiffeId }
        : { type: 'https_web' },
  }
}
