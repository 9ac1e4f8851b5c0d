import * as api from '../../../proto/spire/api/server/svid/v1.ts'
import type { ClientMethod } from '../../transport/grpc-client.ts'

const row = <Req, Res>(
  name: string,
  request: ClientMethod<Req, Res>['request'],
  response: ClientMethod<Req, Res>['response'],
): ClientMethod<Req, Res> => ({ path: `/spire.api.server.svid.v1.SVID/${name}`, request, response })

/** The SVID service as the command line calls it. */
export const svids = {
  mintJwt: row('MintJWTSVID', api.MintJWTSVIDRequest, api.MintJWTSVIDResponse),
  mintWit: row('MintWITSVID', api.MintWITSVIDRequest, api.MintWITSVIDResponse),
  mintX509: row('MintX509SVID', api.MintX509SVIDRequest, api.MintX509SVIDResponse),
}
