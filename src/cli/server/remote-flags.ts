import { type Flag, type FlagTable, text } from '../flags.ts'

const remote = (help: string): Flag<string> => ({ ...text(help), explainedBy: 'turret-server help remote' })

/** What reaches a server over HTTPS instead of its socket; each flag has a variable of the environment beside it. */
export const REMOTE_FLAGS = {
  serverURL: remote('URL of the server, to reach it over HTTPS instead of the socket (env TURRET_SERVER_URL)'),
  serverAudience: remote(
    'How the server is configured to be called, if not by the origin of its URL (env TURRET_SERVER_AUDIENCE)',
  ),
  serverTrustBundle: remote(
    'File with the bundle that verifies the answers of the server, PEM or SPIFFE (env TURRET_SERVER_TRUST_BUNDLE)',
  ),
  serverTrustDomain: remote(
    'Trust domain of the server, if the bundle does not say it (env TURRET_SERVER_TRUST_DOMAIN)',
  ),
  identityCert: remote('PEM file with the X509-SVID to call a remote server with (env TURRET_IDENTITY_CERT)'),
  identityWIT: remote('File with the WIT-SVID to call a remote server with instead (env TURRET_IDENTITY_WIT)'),
  identityKey: remote('File with the private key of either, PEM or JWK (env TURRET_IDENTITY_KEY)'),
  identitySocket: remote('Workload API socket to get that X509-SVID from instead (env TURRET_IDENTITY_SOCKET)'),
  operatorKey: remote('File with an operator key to call a remote server with, PEM or JWK (env TURRET_OPERATOR_KEY)'),
  oidcTokenFile: remote('File with an OIDC token to call a remote server with (env TURRET_OIDC_TOKEN_FILE)'),
} as const satisfies FlagTable

/** Where a remote server is and who we are to it; empty texts for what was not given. */
export interface Remote {
  readonly url: string
  readonly audience: string
  readonly trustBundle: string
  readonly trustDomain: string
  readonly identityCert: string
  readonly identityWit: string
  readonly identityKey: string
  readonly identitySocket: string
  readonly operatorKey: string
  readonly oidcTokenFile: string
}

type RemoteFlags = { readonly [K in keyof typeof REMOTE_FLAGS]: string }

/** Flags win over variables. An explicit socket wins over the variable of the URL. @returns undefined: the socket is meant */
export function remoteOf(
  flags: RemoteFlags,
  env: Readonly<Record<string, string | undefined>>,
  socketIsGiven: boolean,
): Remote | undefined {
  const url = flags.serverURL || (socketIsGiven ? '' : env.TURRET_SERVER_URL) || ''
  if (url === '') return undefined
  // A flag for one identity must not meet another one from the environment.
  const byFlag = [
    flags.identityCert,
    flags.identityWIT,
    flags.identityKey,
    flags.identitySocket,
    flags.operatorKey,
    flags.oidcTokenFile,
  ].some(Boolean)
  const identity = (flag: string, variable: string) => flag || (byFlag ? '' : (env[variable] ?? ''))
  return {
    url,
    audience: flags.serverAudience || env.TURRET_SERVER_AUDIENCE || '',
    trustBundle: flags.serverTrustBundle || env.TURRET_SERVER_TRUST_BUNDLE || '',
    trustDomain: flags.serverTrustDomain || env.TURRET_SERVER_TRUST_DOMAIN || '',
    identityCert: identity(flags.identityCert, 'TURRET_IDENTITY_CERT'),
    identityWit: identity(flags.identityWIT, 'TURRET_IDENTITY_WIT'),
    identityKey: identity(flags.identityKey, 'TURRET_IDENTITY_KEY'),
    identitySocket: identity(flags.identitySocket, 'TURRET_IDENTITY_SOCKET'),
    operatorKey: identity(flags.operatorKey, 'TURRET_OPERATOR_KEY'),
    oidcTokenFile: identity(flags.oidcTokenFile, 'TURRET_OIDC_TOKEN_FILE'),
  }
}
