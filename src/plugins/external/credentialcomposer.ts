import {
  ComposeAgentX509SVIDRequest,
  ComposeAgentX509SVIDResponse,
  ComposeServerX509CARequest,
  ComposeServerX509CAResponse,
  ComposeServerX509SVIDRequest,
  ComposeServerX509SVIDResponse,
  ComposeWorkloadJWTSVIDRequest,
  ComposeWorkloadJWTSVIDResponse,
  ComposeWorkloadX509SVIDRequest,
  ComposeWorkloadX509SVIDResponse,
  type DistinguishedName as WireName,
  type X509CAAttributes,
  type X509SVIDAttributes,
} from '../../../proto/spire/plugin/server/credentialcomposer/v1.ts'
import { StatusError } from '../../core/error.ts'
import type { CredentialComposer, X509Attributes } from '../../core/plugin.ts'
import type { DistinguishedName } from '../../core/x509-name.ts'
import type { ClientMethod } from '../../transport/grpc-client.ts'
import type { PluginCalls } from './calls.ts'

const SERVICE = '/spire.plugin.server.credentialcomposer.v1.CredentialComposer'
const COMPOSE_CA = {
  path: `${SERVICE}/ComposeServerX509CA`,
  request: ComposeServerX509CARequest,
  response: ComposeServerX509CAResponse,
}
const COMPOSE_SERVER = {
  path: `${SERVICE}/ComposeServerX509SVID`,
  request: ComposeServerX509SVIDRequest,
  response: ComposeServerX509SVIDResponse,
}
const COMPOSE_AGENT = {
  path: `${SERVICE}/ComposeAgentX509SVID`,
  request: ComposeAgentX509SVIDRequest,
  response: ComposeAgentX509SVIDResponse,
}
const COMPOSE_WORKLOAD = {
  path: `${SERVICE}/ComposeWorkloadX509SVID`,
  request: ComposeWorkloadX509SVIDRequest,
  response: ComposeWorkloadX509SVIDResponse,
}
const COMPOSE_JWT = {
  path: `${SERVICE}/ComposeWorkloadJWTSVID`,
  request: ComposeWorkloadJWTSVIDRequest,
  response: ComposeWorkloadJWTSVIDResponse,
}
/** Whoever is attested or renews waits for it. */
const TIMEOUT = { timeoutMs: 30_000 }

/** A plugin that changes what credentials say. What it does not implement stays as it is. */
export function externalCredentialComposer(name: string, calls: PluginCalls): CredentialComposer {
  /** Methods that the plugin turned out to be without: nobody waits for them again. */
  const absent = new Set<string>()

  async function composed<Req, Attributes>(
    method: ClientMethod<Req, { attributes: Attributes | undefined }>,
    request: Req,
  ): Promise<Attributes | undefined> {
    if (absent.has(method.path)) return undefined
    try {
      return (await calls.unary(method, request, TIMEOUT)).attributes
    } catch (error) {
      if (!(error instanceof StatusError) || error.code !== 'UNIMPLEMENTED') throw error
      absent.add(method.path)
      return undefined
    }
  }
  const ofSvid = (attributes: X509SVIDAttributes | undefined): X509Attributes | undefined =>
    attributes && {
      subject: nameOf(attributes.subject, calls),
      dnsNames: attributes.dnsSans,
      policies: [],
      extraExtensions: attributes.extraExtensions,
    }
  const ofCa = (attributes: X509CAAttributes | undefined): X509Attributes | undefined =>
    attributes && {
      subject: nameOf(attributes.subject, calls),
      dnsNames: [],
      policies: attributes.policyIdentifiers,
      extraExtensions: attributes.extraExtensions,
    }

  return {
    name,
    async composeServerX509Ca({ subject, policies, extraExtensions }) {
      const attributes = {
        subject: wireName(subject),
        policyIdentifiers: [...policies],
        extraExtensions: [...extraExtensions],
      }
      return ofCa(await composed(COMPOSE_CA, { attributes }))
    },
    composeServerX509Svid: async (said) => ofSvid(await composed(COMPOSE_SERVER, { attributes: wireSvid(said) })),
    composeAgentX509Svid: async (spiffeId, publicKey, said) =>
      ofSvid(await composed(COMPOSE_AGENT, { attributes: wireSvid(said), spiffeId, publicKey })),
    composeWorkloadX509Svid: async (spiffeId, publicKey, said) =>
      ofSvid(await composed(COMPOSE_WORKLOAD, { attributes: wireSvid(said), spiffeId, publicKey })),
    composeWorkloadJwtSvid: async (spiffeId, claims) =>
      (await composed(COMPOSE_JWT, { attributes: { claims: { ...claims } }, spiffeId }))?.claims,
  }
}

function wireSvid({ subject, dnsNames, extraExtensions }: X509Attributes): X509SVIDAttributes {
  return { subject: wireName(subject), dnsSans: [...dnsNames], extraExtensions: [...extraExtensions] }
}

function wireName(name: DistinguishedName): WireName {
  return {
    country: [...(name.country ?? [])],
    organization: [...(name.organization ?? [])],
    organizationalUnit: [...(name.organizationalUnit ?? [])],
    locality: [...(name.locality ?? [])],
    province: [...(name.province ?? [])],
    streetAddress: [...(name.streetAddress ?? [])],
    postalCode: [...(name.postalCode ?? [])],
    serialNumber: name.serialNumber ?? '',
    commonName: name.commonName ?? '',
    extraNames: (name.extraNames ?? []).map(({ oid, value }) => ({ oid, stringValue: value })),
  }
}

function nameOf(name: WireName | undefined, calls: PluginCalls): DistinguishedName {
  if (!name) throw calls.error('INTERNAL', 'plugin returned invalid attributes: subject: cannot be empty')
  const { extraNames, ...rest } = name
  return { ...rest, extraNames: extraNames.map(({ oid, stringValue }) => ({ oid, value: stringValue })) }
}
