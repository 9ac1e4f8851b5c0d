import { parseCertificate } from '../../../core/certificate.ts'
import { certificatesFromPem } from '../../../core/pem.ts'
import type { NodeAttestor } from '../../../core/plugin.ts'
import type { X509PopEnvironment } from './config.ts'
import { type X509PopSettings, x509PopNodeAttestor } from './server.ts'

export type EdgeX509PopSettings = Omit<X509PopSettings, 'mode'> & {
  /** PEM of the CAs that nodes' certificates lead to; absent: nodes show an SVID of this trust domain (mode `spiffe`). */
  readonly caBundle?: string
}

/** Attests nodes by the certificates that they own: `nodeAttestors: [x509pop({ caBundle })]`. @throws Error if the PEM holds none */
export function x509pop({ caBundle, ...settings }: EdgeX509PopSettings): (host: X509PopEnvironment) => NodeAttestor {
  const roots = caBundle === undefined ? undefined : certificatesFromPem(caBundle).map(parseCertificate)
  if (roots?.length === 0) throw new Error('caBundle holds no certificate')
  return (host) =>
    x509PopNodeAttestor({
      ...settings,
      trustDomain: host.trustDomain,
      mode: roots ? 'external_pki' : 'spiffe',
      roots: async () => roots ?? host.roots(),
      clock: host.clock,
      verify: host.verify,
    })
}
