import type { Bundle } from '../src/core/bundle.ts'
import { parseBundleDocument } from '../src/core/bundle-document.ts'
import { parseTrustDomainName } from '../src/core/trust-domain.ts'
import { publicDocuments } from '../src/transport/public-documents.ts'

/** Variables of publish-bundle.toml. `BUNDLE` is what `turret-server bundle show -format spiffe` prints. */
interface Environment {
  readonly TRUST_DOMAIN: string
  readonly BUNDLE: string
  readonly ISSUER?: string
}

const REFRESH_HINT_SECONDS = 300
let current:
  | { readonly environment: Environment; readonly fetch: (request: Request) => Response | Promise<Response> }
  | undefined

/** Publishes the bundle, JWKS and OIDC discovery of a trust domain from Cloudflare's edge. */
export default {
  fetch(request: Request, environment: Environment): Response | Promise<Response> {
    if (current?.environment !== environment) {
      const bundle: Bundle = parseBundleDocument(parseTrustDomainName(environment.TRUST_DOMAIN), environment.BUNDLE)
      const documents = publicDocuments({
        bundle: () => bundle,
        refreshHintSeconds: REFRESH_HINT_SECONDS,
        issuer: environment.ISSUER,
      })
      current = { environment, fetch: documents }
    }
    return current.fetch(request)
  },
}
