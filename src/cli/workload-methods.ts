import {
  JWTBundlesRequest,
  JWTBundlesResponse,
  JWTSVIDRequest,
  JWTSVIDResponse,
  ValidateJWTSVIDRequest,
  ValidateJWTSVIDResponse,
  X509BundlesRequest,
  X509BundlesResponse,
  X509SVIDRequest,
  X509SVIDResponse,
} from '../../proto/spiffe/workload.ts'
import type { ClientMethod } from '../transport/grpc-client.ts'

const row = <Req, Res>(
  name: string,
  request: ClientMethod<Req, Res>['request'],
  response: ClientMethod<Req, Res>['response'],
): ClientMethod<Req, Res> => ({ path: `/SpiffeWorkloadAPI/${name}`, request, response })

/** The Workload API as commands, and a server for its own identity, call it. */
export const workload = {
  fetchJwtBundles: row('FetchJWTBundles', JWTBundlesRequest, JWTBundlesResponse),
  fetchJwtSvid: row('FetchJWTSVID', JWTSVIDRequest, JWTSVIDResponse),
  fetchX509Bundles: row('FetchX509Bundles', X509BundlesRequest, X509BundlesResponse),
  fetchX509Svid: row('FetchX509SVID', X509SVIDRequest, X509SVIDResponse),
  validateJwtSvid: row('ValidateJWTSVID', ValidateJWTSVIDRequest, ValidateJWTSVIDResponse),
}

/** Every call carries it: the Workload API refuses others, so that no web page can be made to call it. */
export const WORKLOAD_HEADER = { 'workload.spiffe.io': 'true' }
