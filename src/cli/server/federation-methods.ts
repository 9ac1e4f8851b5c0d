import { Empty } from '../../../proto/google/protobuf/empty.ts'
import * as api from '../../../proto/spire/api/server/trustdomain/v1.ts'
import { FederationRelationship } from '../../../proto/spire/api/types.ts'
import type { ClientMethod } from '../../transport/grpc-client.ts'

const row = <Req, Res>(
  name: string,
  request: ClientMethod<Req, Res>['request'],
  response: ClientMethod<Req, Res>['response'],
): ClientMethod<Req, Res> => ({ path: `/spire.api.server.trustdomain.v1.TrustDomain/${name}`, request, response })

/** The trust domain service as the command line calls it. */
export const relationships = {
  batchCreate: row(
    'BatchCreateFederationRelationship',
    api.BatchCreateFederationRelationshipRequest,
    api.BatchCreateFederationRelationshipResponse,
  ),
  batchDelete: row(
    'BatchDeleteFederationRelationship',
    api.BatchDeleteFederationRelationshipRequest,
    api.BatchDeleteFederationRelationshipResponse,
  ),
  batchUpdate: row(
    'BatchUpdateFederationRelationship',
    api.BatchUpdateFederationRelationshipRequest,
    api.BatchUpdateFederationRelationshipResponse,
  ),
  get: row('GetFederationRelationship', api.GetFederationRelationshipRequest, FederationRelationship),
  list: row(
    'ListFederationRelationships',
    api.ListFederationRelationshipsRequest,
    api.ListFederationRelationshipsResponse,
  ),
  refresh: row('RefreshBundle', api.RefreshBundleRequest, Empty),
}
