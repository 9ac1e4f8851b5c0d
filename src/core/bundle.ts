import type { EpochSeconds } from './clock.ts'
import type { TrustDomain } from './trust-domain.ts'

/** One trusted X.509 root: a DER certificate. */
export interface X509Authority {
  readonly der: Uint8Array
  readonly tainted: boolean
}

/** A public key that verifies JWT-SVIDs or WIT-SVIDs. */
export interface JwtAuthority {
  readonly keyId: string
  /** SubjectPublicKeyInfo, DER. */
  readonly publicKey: Uint8Array
  /** 0: unknown. */
  readonly expiresAt: EpochSeconds
  readonly tainted: boolean
}

/** Everything one trust domain is trusted for. Order of authorities is order of first appearance. */
export interface Bundle {
  readonly trustDomain: TrustDomain
  readonly x509Authorities: readonly X509Authority[]
  readonly jwtAuthorities: readonly JwtAuthority[]
  readonly witAuthorities: readonly JwtAuthority[]
  /** 0: none stated. */
  readonly refreshHintSeconds: number
  readonly sequenceNumber: number
}
