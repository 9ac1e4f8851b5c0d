import * as health from '../../proto/grpc/health/v1.ts'
import * as bundleApi from '../../proto/spire/api/server/bundle/v1.ts'
import { Bundle } from '../../proto/spire/api/types.ts'
import { type MessageType, type Method, type UnaryMethod, unary } from '../rpc/method.ts'
import * as bundle from './bundle.ts'
import type { ServerDeps } from './deps.ts'
import { check } from './health.ts'

function row<Req, Res>(
  path: string,
  request: MessageType<Req>,
  response: MessageType<Res>,
  handle: UnaryMethod<ServerDeps, Req, Res>['handle'],
): Method<ServerDeps> {
  return unary({ path, request, response, handle })
}

const BUNDLE = '/spire.api.server.bundle.v1.Bundle/'
const HEALTH = '/grpc.health.v1.Health/'

/** What the server answers over TCP. */
export const TCP_METHODS: readonly Method<ServerDeps>[] = [
  row(`${BUNDLE}GetBundle`, bundleApi.GetBundleRequest, Bundle, bundle.getBundle),
]

/** What it answers on the admin socket. */
export const ADMIN_METHODS: readonly Method<ServerDeps>[] = [
  ...TCP_METHODS,
  row(`${HEALTH}Check`, health.HealthCheckRequest, health.HealthCheckResponse, check),
]
