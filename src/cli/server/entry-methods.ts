import * as api from '../../../proto/spire/api/server/entry/v1.ts'
import { Entry } from '../../../proto/spire/api/types.ts'
import type { ClientMethod } from '../../transport/grpc-client.ts'

const row = <Req, Res>(
  name: string,
  request: ClientMethod<Req, Res>['request'],
  response: ClientMethod<Req, Res>['response'],
): ClientMethod<Req, Res> => ({ path: `/spire.api.server.entry.v1.Entry/${name}`, request, response })

/** The entry service as the command line calls it. */
export const entries = {
  batchCreate: row('BatchCreateEntry', api.BatchCreateEntryRequest, api.BatchCreateEntryResponse),
  batchDelete: row('BatchDeleteEntry', api.BatchDeleteEntryRequest, api.BatchDeleteEntryResponse),
  batchUpdate: row('BatchUpdateEntry', api.BatchUpdateEntryRequest, api.BatchUpdateEntryResponse),
  count: row('CountEntries', api.CountEntriesRequest, api.CountEntriesResponse),
  get: row('GetEntry', api.GetEntryRequest, Entry),
  list: row('ListEntries', api.ListEntriesRequest, api.ListEntriesResponse),
}
