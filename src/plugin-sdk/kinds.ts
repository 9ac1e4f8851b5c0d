import * as agentKeyManager from '../../proto/spire/plugin/agent/keymanager/v1.ts'
import * as agentNodeAttestor from '../../proto/spire/plugin/agent/nodeattestor/v1.ts'
import * as svidStore from '../../proto/spire/plugin/agent/svidstore/v1.ts'
import * as workloadAttestor from '../../proto/spire/plugin/agent/workloadattestor/v1.ts'
import * as bundlePublisher from '../../proto/spire/plugin/server/bundlepublisher/v1.ts'
import * as composer from '../../proto/spire/plugin/server/credentialcomposer/v1.ts'
import * as serverKeyManager from '../../proto/spire/plugin/server/keymanager/v1.ts'
import * as serverNodeAttestor from '../../proto/spire/plugin/server/nodeattestor/v1.ts'
import * as notifier from '../../proto/spire/plugin/server/notifier/v1.ts'
import * as upstream from '../../proto/spire/plugin/server/upstreamauthority/v1.ts'
import type { Call, MessageType } from '../rpc/method.ts'

/** What a call tells a plugin besides its message. */
export type PluginCall = Pick<Call, 'signal'>

type Shape = 'unary' | 'server-stream' | 'bidi'

/** One method of a plugin's service. */
export interface Rpc<S extends Shape, Req, Res> {
  readonly shape: S
  /** As on the wire. */
  readonly name: string
  readonly request: MessageType<Req>
  readonly response: MessageType<Res>
}

export type AnyRpc =
  // biome-ignore lint/suspicious/noExplicitAny: a table holds rows of many message types; each row is typed where it is made.
  Rpc<'unary', any, any> | Rpc<'server-stream', any, any> | Rpc<'bidi', any, any>

const rpc =
  <S extends Shape>(shape: S) =>
  <Req, Res>(name: string, request: MessageType<Req>, response: MessageType<Res>): Rpc<S, Req, Res> => ({
    shape,
    name,
    request,
    response,
  })
const unary = rpc('unary')
const stream = rpc('server-stream')
const bidi = rpc('bidi')

/**
 * Every kind of plugin: the type as the configuration spells it, its gRPC service, and the methods by the names that an implementation
 * gives them. What is optional answers UNIMPLEMENTED where it is absent, which hosts understand.
 */
export const KINDS = {
  'server/KeyManager': {
    type: 'KeyManager',
    service: 'spire.plugin.server.keymanager.v1.KeyManager',
    required: {
      generateKey: unary('GenerateKey', serverKeyManager.GenerateKeyRequest, serverKeyManager.GenerateKeyResponse),
      getPublicKey: unary('GetPublicKey', serverKeyManager.GetPublicKeyRequest, serverKeyManager.GetPublicKeyResponse),
      getPublicKeys: unary(
        'GetPublicKeys',
        serverKeyManager.GetPublicKeysRequest,
        serverKeyManager.GetPublicKeysResponse,
      ),
      signData: unary('SignData', serverKeyManager.SignDataRequest, serverKeyManager.SignDataResponse),
    },
    optional: {},
  },
  'agent/KeyManager': {
    type: 'KeyManager',
    service: 'spire.plugin.agent.keymanager.v1.KeyManager',
    required: {
      generateKey: unary('GenerateKey', agentKeyManager.GenerateKeyRequest, agentKeyManager.GenerateKeyResponse),
      getPublicKey: unary('GetPublicKey', agentKeyManager.GetPublicKeyRequest, agentKeyManager.GetPublicKeyResponse),
      getPublicKeys: unary(
        'GetPublicKeys',
        agentKeyManager.GetPublicKeysRequest,
        agentKeyManager.GetPublicKeysResponse,
      ),
      signData: unary('SignData', agentKeyManager.SignDataRequest, agentKeyManager.SignDataResponse),
    },
    optional: {},
  },
  'server/NodeAttestor': {
    type: 'NodeAttestor',
    service: 'spire.plugin.server.nodeattestor.v1.NodeAttestor',
    required: { attest: bidi('Attest', serverNodeAttestor.AttestRequest, serverNodeAttestor.AttestResponse) },
    optional: {},
  },
  'agent/NodeAttestor': {
    type: 'NodeAttestor',
    service: 'spire.plugin.agent.nodeattestor.v1.NodeAttestor',
    required: {
      /** Speaks first: the payload, then a response for each challenge. */
      aidAttestation: bidi('AidAttestation', agentNodeAttestor.Challenge, agentNodeAttestor.PayloadOrChallengeResponse),
    },
    optional: {},
  },
  'agent/WorkloadAttestor': {
    type: 'WorkloadAttestor',
    service: 'spire.plugin.agent.workloadattestor.v1.WorkloadAttestor',
    required: { attest: unary('Attest', workloadAttestor.AttestRequest, workloadAttestor.AttestResponse) },
    optional: {
      attestReference: unary(
        'AttestReference',
        workloadAttestor.AttestReferenceRequest,
        workloadAttestor.AttestReferenceResponse,
      ),
    },
  },
  'agent/SVIDStore': {
    type: 'SVIDStore',
    service: 'spire.plugin.agent.svidstore.v1.SVIDStore',
    required: {
      putX509Svid: unary('PutX509SVID', svidStore.PutX509SVIDRequest, svidStore.PutX509SVIDResponse),
      deleteX509Svid: unary('DeleteX509SVID', svidStore.DeleteX509SVIDRequest, svidStore.DeleteX509SVIDResponse),
    },
    optional: {},
  },
  'server/UpstreamAuthority': {
    type: 'UpstreamAuthority',
    service: 'spire.plugin.server.upstreamauthority.v1.UpstreamAuthority',
    required: {
      /** Answers at once; what comes later are the roots whenever they change. */
      mintX509CaAndSubscribe: stream('MintX509CAAndSubscribe', upstream.MintX509CARequest, upstream.MintX509CAResponse),
    },
    optional: {
      publishJwtKeyAndSubscribe: stream(
        'PublishJWTKeyAndSubscribe',
        upstream.PublishJWTKeyRequest,
        upstream.PublishJWTKeyResponse,
      ),
      subscribeToLocalBundle: stream(
        'SubscribeToLocalBundle',
        upstream.SubscribeToLocalBundleRequest,
        upstream.SubscribeToLocalBundleResponse,
      ),
    },
  },
  'server/CredentialComposer': {
    type: 'CredentialComposer',
    service: 'spire.plugin.server.credentialcomposer.v1.CredentialComposer',
    required: {},
    optional: {
      composeServerX509Ca: unary(
        'ComposeServerX509CA',
        composer.ComposeServerX509CARequest,
        composer.ComposeServerX509CAResponse,
      ),
      composeServerX509Svid: unary(
        'ComposeServerX509SVID',
        composer.ComposeServerX509SVIDRequest,
        composer.ComposeServerX509SVIDResponse,
      ),
      composeAgentX509Svid: unary(
        'ComposeAgentX509SVID',
        composer.ComposeAgentX509SVIDRequest,
        composer.ComposeAgentX509SVIDResponse,
      ),
      composeWorkloadX509Svid: unary(
        'ComposeWorkloadX509SVID',
        composer.ComposeWorkloadX509SVIDRequest,
        composer.ComposeWorkloadX509SVIDResponse,
      ),
      composeWorkloadJwtSvid: unary(
        'ComposeWorkloadJWTSVID',
        composer.ComposeWorkloadJWTSVIDRequest,
        composer.ComposeWorkloadJWTSVIDResponse,
      ),
    },
  },
  'server/Notifier': {
    type: 'Notifier',
    service: 'spire.plugin.server.notifier.v1.Notifier',
    required: {},
    optional: {
      notify: unary('Notify', notifier.NotifyRequest, notifier.NotifyResponse),
      /** The server waits for the answer, and does not start without it. */
      notifyAndAdvise: unary('NotifyAndAdvise', notifier.NotifyAndAdviseRequest, notifier.NotifyAndAdviseResponse),
    },
  },
  'server/BundlePublisher': {
    type: 'BundlePublisher',
    service: 'spire.plugin.server.bundlepublisher.v1.BundlePublisher',
    required: {
      publishBundle: unary(
        'PublishBundle',
        bundlePublisher.PublishBundleRequest,
        bundlePublisher.PublishBundleResponse,
      ),
    },
    optional: {},
  },
} as const

export type PluginKind = keyof typeof KINDS

type Handler<R> =
  R extends Rpc<infer S, infer Req, infer Res>
    ? S extends 'unary'
      ? (request: Req, call: PluginCall) => Res | Promise<Res>
      : S extends 'server-stream'
        ? (request: Req, call: PluginCall) => AsyncIterable<Res>
        : (requests: AsyncIterable<Req>, call: PluginCall) => AsyncIterable<Res>
    : never
type Handlers<Rpcs> = { readonly [Name in keyof Rpcs]: Handler<Rpcs[Name]> }

type ImplementationOf<K extends PluginKind> = Handlers<(typeof KINDS)[K]['required']> &
  Partial<Handlers<(typeof KINDS)[K]['optional']>> & {
    /** Called once: when the host unloads the plugin, or when a new configuration made another one. */
    close?(): void | Promise<void>
  }
type Implementations = { readonly [K in PluginKind]: ImplementationOf<K> }

/** What a plugin of a kind does. Errors with a code are StatusErrors; others reach the host as UNKNOWN with their text. */
export type Implementation<K extends PluginKind> = Implementations[K]
