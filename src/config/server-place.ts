import type { TrustDomain } from '../core/trust-domain.ts'

/** Where a server is. */
export interface ServerPlace {
  readonly trustDomain: TrustDomain
  readonly serverAddress: string
  readonly serverPort: number
  /** The server's HTTP plane; undefined: gRPC to serverAddress. */
  readonly serverUrl: string | undefined
  /** How the server is configured to be called over HTTP; undefined: the origin of the URL. */
  readonly serverAudience: string | undefined
  readonly requirePqKem: boolean
}
