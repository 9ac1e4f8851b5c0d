import { readFileSync } from 'node:fs'
import { parseCertificate } from '../../../core/certificate.ts'
import { errorMessage } from '../../../core/error.ts'
import { certificatesFromPem } from '../../../core/pem.ts'
import type { NodeAttestor } from '../../../core/plugin.ts'
import { requireX509PopSettings, type X509PopOptions, x509PopNodeAttestor } from './server.ts'

/** What the attestor gets from the server beside its configuration. `roots` is the server's own bundle. */
export type X509PopEnvironment = Pick<X509PopOptions, 'trustDomain' | 'roots' | 'clock' | 'verify'>

/**
 * Reads the server's `plugin_data`. Root files are read once, now.
 * @returns makes the attestor
 * @throws Error with SPIRE's texts
 */
export function readX509Pop(data: Readonly<Record<string, unknown>>): (server: X509PopEnvironment) => NodeAttestor {
  const mode = text(data.mode) || 'external_pki'
  if (mode !== 'external_pki' && mode !== 'spiffe') throw new Error('mode can only be either spiffe or external_pki')
  const single = text(data.ca_bundle_path)
  const several = Array.isArray(data.ca_bundle_paths) ? data.ca_bundle_paths.map(String) : []
  if (mode === 'spiffe' && (single !== '' || several.length > 0)) {
    throw new Error('you can not use ca_bundle_path or ca_bundle_paths in spiffe mode')
  }
  const external = mode === 'spiffe' ? [] : bundleFiles(single, several).flatMap(readRoots)
  const settings = {
    mode,
    agentPathTemplate: text(data.agent_path_template),
    ...(typeof data.spiffe_prefix === 'string' && { spiffePrefix: data.spiffe_prefix }),
    ...(data.max_intermediates !== undefined && { maxIntermediates: Number(data.max_intermediates) }),
    ...(data.max_rsa_key_size !== undefined && { maxRsaKeySize: Number(data.max_rsa_key_size) }),
    verifyClientIp: data.verify_client_ip === true,
  } as const
  requireX509PopSettings(settings)
  return ({ trustDomain, roots, clock, verify }) =>
    x509PopNodeAttestor({
      ...settings,
      trustDomain,
      clock,
      verify,
      roots: mode === 'spiffe' ? roots : async () => external,
    })
}

function bundleFiles(single: string, several: readonly string[]): readonly string[] {
  if (single !== '' && several.length > 0) {
    throw new Error('only one of ca_bundle_path or ca_bundle_paths can be configured, not both')
  }
  const files = single !== '' ? [single] : several
  if (files.length === 0) throw new Error('one of ca_bundle_path or ca_bundle_paths must be configured')
  return files
}

function readRoots(path: string) {
  try {
    return certificatesFromPem(readFileSync(path, 'utf8')).map(parseCertificate)
  } catch (error) {
    throw new Error(`unable to load trust bundle "${path}": ${errorMessage(error)}`, { cause: error })
  }
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : ''
}
