import type { Node } from '../proto/envoy/config/core/v3.ts'
import {
  type CertificateValidationContext,
  Secret,
  SPIFFECertValidatorConfig,
} from '../proto/envoy/extensions/transport_sockets/tls/v3.ts'
import type { Any } from '../proto/google/protobuf/any.ts'
import type { Bundle } from '../src/core/bundle.ts'
import { StatusError } from '../src/core/error.ts'
import { encodePem } from '../src/core/pem.ts'
import { trustDomainId } from '../src/core/spiffe-id.ts'
import type { Identity, WorkloadSvid, WorkloadUpdate } from './svid-cache.ts'

/** The names under which an Envoy asks for what it does not know the name of, and how peers are verified. */
export interface SdsOptions {
  /** Default `default`. */
  readonly defaultSvidName: string
  /** Default `ROOTCA`. */
  readonly defaultBundleName: string
  /** Default `ALL`. */
  readonly defaultAllBundlesName: string
  readonly disableSpiffeCertValidation: boolean
}

/** What an error repeats of the names in a request. */
const MOST_NAMES = 20
const LONGEST_NAME = 512

const TYPES = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.'
const VALIDATOR = 'envoy.tls.cert_validator.spiffe'

/**
 * The secrets of these names that a workload is entitled to; all of them if there is no name.
 * @param node of the Envoy that asks: its version and metadata say what it can verify
 * @throws StatusError INVALID_ARGUMENT for a name that is none of its own
 * @see agent.md 13
 */
export function secretsOf(
  resourceNames: readonly string[],
  node: Node | undefined,
  update: WorkloadUpdate,
  options: SdsOptions,
): Any[] {
  const names = new Set(resourceNames.filter((name) => name !== ''))
  const all = names.size === 0
  const wanted = (name: string): boolean => names.delete(name) || all
  const usesValidator = canUseValidator(node, options)
  const context = (name: string, bundle: Bundle): Any =>
    validationContext(name, usesValidator ? validatorOf([bundle]) : { trustedCa: inline(rootsPem(bundle)) })
  const { bundle, federatedBundles, identities } = update
  const resources: Any[] = []

  // As in SPIRE, only one of the three is served.
  const own = trustDomainId(bundle.trustDomain)
  if (wanted(own)) resources.push(context(own, bundle))
  else if (names.delete(options.defaultBundleName)) resources.push(context(options.defaultBundleName, bundle))
  else if (names.delete(options.defaultAllBundlesName)) {
    if (!usesValidator) throw new StatusError('INTERNAL', 'unable to use "SPIFFE validator" on Envoy below 1.17')
    resources.push(validationContext(options.defaultAllBundlesName, validatorOf([bundle, ...federatedBundles])))
  }
  for (const federated of federatedBundles) {
    const id = trustDomainId(federated.trustDomain)
    if (wanted(id)) resources.push(context(id, federated))
  }
  const asked = new Set(names)
  for (const [index, identity] of identities.entries()) {
    const { spiffeId } = identity.entry
    // Several entries may have one ID: each has its own certificate.
    if (all || asked.has(spiffeId)) {
      names.delete(spiffeId)
      resources.push(tlsCertificate(spiffeId, identity))
    } else if (index === 0 && names.delete(options.defaultSvidName)) {
      resources.push(tlsCertificate(options.defaultSvidName, identity))
    }
  }
  if (names.size > 0) {
    const left = [...names].sort().map((name) => JSON.stringify(name.slice(0, LONGEST_NAME)))
    if (left.length > MOST_NAMES) left.splice(MOST_NAMES, left.length, '...')
    throw new StatusError(
      'INVALID_ARGUMENT',
      `workload is not authorized for the requested identities [${left.join(' ')}]`,
    )
  }
  return resources
}

/** Whether this Envoy has the SPIFFE validator, and nobody turned it off. */
function canUseValidator(node: Node | undefined, { disableSpiffeCertValidation }: SdsOptions): boolean {
  const disabled = truthOf(node?.metadata?.disable_spiffe_cert_validation) ?? disableSpiffeCertValidation
  if (disabled) return false
  const version = node?.userAgentBuildVersion
  if (version === undefined) return true
  const { majorNumber = 0, minorNumber = 0 } = version.version ?? {}
  return majorNumber > 1 || (majorNumber === 1 && minorNumber > 17)
}

const TRUTHS: Readonly<Record<string, boolean>> = {
  ...Object.fromEntries(['1', 't', 'T', 'TRUE', 'true', 'True'].map((text) => [text, true])),
  ...Object.fromEntries(['0', 'f', 'F', 'FALSE', 'false', 'False'].map((text) => [text, false])),
}

/** As Go's ParseBool; undefined for anything else. */
function truthOf(value: unknown): boolean | undefined {
  if (typeof value === 'boolean') return value
  return typeof value === 'string' && Object.hasOwn(TRUTHS, value) ? TRUTHS[value] : undefined
}

function tlsCertificate(name: string, { svid }: Identity): Any {
  const { chain, privateKey } = pemOf(svid)
  return secret({
    name,
    tlsCertificate: { certificateChain: inline(chain), privateKey: inline(privateKey) },
  })
}

function validationContext(name: string, context: Partial<CertificateValidationContext>): Any {
  return secret({ name, validationContext: { trustedCa: undefined, customValidatorConfig: undefined, ...context } })
}

function validatorOf(bundles: readonly Bundle[]): Partial<CertificateValidationContext> {
  const trustDomains = bundles
    .map((bundle) => ({ name: bundle.trustDomain as string, trustBundle: inline(rootsPem(bundle)) }))
    .sort((a, b) => (a.name < b.name ? -1 : 1))
  return {
    customValidatorConfig: {
      name: VALIDATOR,
      typedConfig: {
        typeUrl: `${TYPES}SPIFFECertValidatorConfig`,
        value: SPIFFECertValidatorConfig.encode({ trustDomains }).finish(),
      },
    },
  }
}

function secret(value: Secret): Any {
  return { typeUrl: `${TYPES}Secret`, value: Secret.encode(value).finish() }
}

function inline(inlineBytes: Uint8Array) {
  return { inlineBytes }
}

/** PEM of what many streams are sent, made once. */
const rootsByBundle = new WeakMap<Bundle, Uint8Array>()
const pemBySvid = new WeakMap<WorkloadSvid, { readonly chain: Uint8Array; readonly privateKey: Uint8Array }>()

function rootsPem(bundle: Bundle): Uint8Array {
  let pem = rootsByBundle.get(bundle)
  if (pem === undefined) {
    pem = certificatesPem(bundle.x509Authorities.map(({ der }) => der))
    rootsByBundle.set(bundle, pem)
  }
  return pem
}

function pemOf(svid: WorkloadSvid) {
  let pem = pemBySvid.get(svid)
  if (pem === undefined) {
    pem = { chain: certificatesPem(svid.chain), privateKey: utf8(encodePem('PRIVATE KEY', svid.privateKey)) }
    pemBySvid.set(svid, pem)
  }
  return pem
}

function certificatesPem(certificates: readonly Uint8Array[]): Uint8Array {
  return utf8(certificates.map((der) => encodePem('CERTIFICATE', der)).join(''))
}

function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text)
}
