import * as api from '../../../proto/spire/api/server/bundle/v1.ts'
import { Bundle } from '../../../proto/spire/api/types.ts'
import type { ClientMethod } from '../../transport/grpc-client.ts'

const row = <Req, Res>(
  name: string,
  request: ClientMethod<Req, Res>['request'],
  response: ClientMethod<Req, Res>['response'],
): ClientMethod<Req, Res> => ({ path: `/spire.api.server.bundle.v1.Bundle/${name}`, request, response })

/** The bundle service as the command line calls it. */
export const bundles = {
  count: row('CountBundles', api.CountBundlesRequest, api.CountBundlesResponse),
  deleteFederated: row(
    'BatchDeleteFederatedBundle',
    api.BatchDeleteFederatedBundleRequest,
    api.BatchDeleteFederatedBundleResponse,
  ),
  get: row('GetBundle', api.GetBundleRequest, Bundle),
  getFederated: row('GetFederatedBundle', api.GetFederatedBundleRequest, Bundle),
  listFederated: row('ListFederatedBundles', api.ListFederatedBundlesRequest, api.ListFederatedBundlesResponse),
  setFederated: row('BatchSetFederatedBundle', api.BatchSetFederatedBundleRequest, api.BatchSetFederatedBundleResponse),
}
