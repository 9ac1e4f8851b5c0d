import { parseCertificate } from '../src/core/certificate.ts'
import { certificatesFromPem } from '../src/core/pem.ts'
import type { NodeAttestor } from '../src/core/plugin.ts'
import { type X509PopOptions, x509PopNodeAttestor } from '../src/plugins/nodeattestor/x509pop.ts'
import type { TurretHost } from './options.ts'

export type X509PopSettings = Omit<X509PopOptions, 'trustDomain' | 'mode' | 'roots' | 'clock' | 'verify'> & {
  /** PEM of the CAs that nodes' certificates lead to; absent: nodes show an SVID of this trust domain (mode `spiffe`). */
  readonly caBundle?: string
}

/** Attests nodes by the certificates that they own: `nodeAttestors: [x509pop({ caBundle })]`. @throws Error if the PEM holds none */
export function x509pop({ caBundle, ...settings }: X509PopSettings): (host: TurretHost) => NodeAttestor {
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
