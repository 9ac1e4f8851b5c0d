import { type Claims, claimTexts, type DerivedSelectors, textClaim } from './claims.ts'

/** What a kind of platform is. */
export interface SourceType {
  /** `iss` of all its tokens; absent: each customer, installation or cluster has its own, which must be configured. */
  readonly issuer?: string
  /** Issuers that are one customer's alone: their tokens need no allow list. */
  readonly ownIssuer?: RegExp
  /** Keys of which the allow list must have one, because the issuer also serves others; the first is the best. */
  readonly owners: readonly string[]
  /** Values of the tokens' `typ`; absent: `jwt`, or none at all. */
  readonly types?: readonly string[]
  /** Claims that become selectors, under the name of the claim where none is given; what cannot change comes first. */
  readonly selectors: readonly (string | ClaimSelector)[]
  /** Selectors that are made of parts of claims. */
  readonly derive?: (claims: Claims) => DerivedSelectors
  /** Those of them that the allow list may name. */
  readonly derived?: readonly string[]
}

export interface ClaimSelector {
  readonly key: string
  readonly path: readonly string[]
  /** A claim that must be `true` for this one to count. */
  readonly verifiedBy?: string
}

const AWS = 'https://sts.amazonaws.com/'

/**
 * The platforms whose tokens are taken. Names of types and keys are those of the SPIFFE project's own exchange, so that its entries keep
 * their selectors. Left out on purpose are claims that name the person, the run or what a stranger may choose (actor, head_ref, run_id,
 * names for display), and Kubernetes' claims on nodes, which its API server does not verify.
 */
export const SOURCE_TYPES: Readonly<Record<string, SourceType>> = {
  github_actions: {
    issuer: 'https://token.actions.githubusercontent.com',
    owners: ['repository_owner_id', 'repository_id'],
    selectors: [
      'repository_id',
      'repository_owner_id',
      'job_workflow_ref',
      'environment',
      'ref',
      'ref_type',
      'event_name',
      'runner_environment',
      'repository',
      'repository_owner',
      'sha',
    ],
    derive: (claims) => ({ ...githubWorkflow(claims), ...branch(claims, 'refs/heads/') }),
    derived: ['job_workflow_ref:repo', 'job_workflow_ref:path', 'job_workflow_ref:ref', 'branch'],
  },
  gitlab_ci: {
    issuer: 'https://gitlab.com',
    owners: ['namespace_id', 'project_id'],
    selectors: [
      'project_id',
      'namespace_id',
      'ci_config_ref_uri',
      'ref_protected',
      'ref',
      'ref_type',
      'ref_path',
      'environment',
      'environment_protected',
      'project_path',
      'namespace_path',
    ],
    derive: (claims) => ({ ...gitlabConfig(claims), ...branch(claims, '') }),
    derived: [
      'ci_config_ref_uri:host',
      'ci_config_ref_uri:project_path',
      'ci_config_ref_uri:config_path',
      'ci_config_ref_uri:ref',
      'branch',
    ],
  },
  k8s_psat: {
    owners: ['namespace'],
    selectors: [
      { key: 'namespace', path: ['kubernetes.io', 'namespace'] },
      { key: 'service_account_name', path: ['kubernetes.io', 'serviceaccount', 'name'] },
      { key: 'service_account_uid', path: ['kubernetes.io', 'serviceaccount', 'uid'] },
      { key: 'pod_uid', path: ['kubernetes.io', 'pod', 'uid'] },
    ],
  },
  spiffe: {
    owners: [],
    types: ['jwt', 'jose'],
    selectors: [],
    derive: spiffeParts,
    derived: ['source_spiffe_id', 'source_path'],
  },
  aws: {
    ownIssuer: /^https:\/\/[a-z0-9-]+\.tokens\.sts\.global\.api\.aws$/,
    owners: ['aws_account'],
    selectors: [
      { key: 'aws_account', path: [AWS, 'aws_account'] },
      'sub',
      { key: 'org_id', path: [AWS, 'org_id'] },
      { key: 'ou_path', path: [AWS, 'ou_path'] },
      { key: 'lambda_source_function_arn', path: [AWS, 'lambda_source_function_arn'] },
      { key: 'principal_tags.*', path: [AWS, 'principal_tags'] },
    ],
  },
  google: {
    issuer: 'https://accounts.google.com',
    owners: ['sub', 'email', 'google.compute_engine.project_number', 'google.compute_engine.project_id'],
    selectors: [
      'sub',
      { key: 'email', path: ['email'], verifiedBy: 'email_verified' },
      ...['project_number', 'project_id', 'instance_id', 'instance_name', 'zone'].map((name) => ({
        key: `google.compute_engine.${name}`,
        path: ['google', 'compute_engine', name],
      })),
    ],
  },
  azure: {
    ownIssuer: /^https:\/\/(sts\.windows\.net\/[0-9a-f-]{36}\/|login\.microsoftonline\.com\/[0-9a-f-]{36}\/v2\.0)$/,
    owners: ['tid'],
    selectors: ['tid', 'oid', 'xms_mirid'],
  },
  fly: {
    ownIssuer: /^https:\/\/oidc\.fly\.io\/[^/]+$/,
    owners: ['org_id'],
    selectors: ['org_id', 'app_id', 'machine_id', 'org_name', 'app_name', 'machine_name'],
  },
  vercel: {
    ownIssuer: /^https:\/\/oidc\.vercel\.com\/[^/]+$/,
    owners: ['owner_id', 'project_id'],
    selectors: ['owner_id', 'project_id', 'environment'],
  },
  deno_deploy: {
    issuer: 'https://oidc.deno.com',
    owners: ['org_id', 'app_id'],
    selectors: ['org_id', 'app_id', 'context_id', 'context_name', 'revision_id', 'org_slug', 'app_slug'],
  },
  oidc: {
    owners: [],
    selectors: [],
  },
}

/** `owner/repo/.github/workflows/name.yml@ref`: only where it can be taken apart in one way, as file names and branches may have an @. */
function githubWorkflow(claims: Claims): DerivedSelectors {
  const whole = textClaim(claims, 'job_workflow_ref') ?? ''
  const parts = /^([^/@]+\/[^/@]+)\/(\.github\/workflows\/[^/@]+\.ya?ml)@(refs\/.+|[0-9a-f]{40})$/.exec(whole)
  if (!parts || isTwofold(whole)) return {}
  return {
    'job_workflow_ref:repo': parts[1]!,
    'job_workflow_ref:path': parts[2]!,
    'job_workflow_ref:ref': parts[3]!,
  }
}

/** `host/group/project//path@ref` */
function gitlabConfig(claims: Claims): DerivedSelectors {
  const whole = textClaim(claims, 'ci_config_ref_uri') ?? ''
  const parts = /^([^/@]+)\/([^@]+?)\/\/([^@]+)@(refs\/.+)$/.exec(whole)
  if (!parts || isTwofold(whole)) return {}
  return {
    'ci_config_ref_uri:host': parts[1]!,
    'ci_config_ref_uri:project_path': parts[2]!,
    'ci_config_ref_uri:config_path': parts[3]!,
    'ci_config_ref_uri:ref': parts[4]!,
  }
}

function isTwofold(whole: string): boolean {
  return whole.split('@refs/').length > 2
}

function branch(claims: Claims, prefix: string): DerivedSelectors {
  const ref = textClaim(claims, 'ref')
  if (ref === undefined || textClaim(claims, 'ref_type') !== 'branch' || !ref.startsWith(prefix)) return {}
  return { branch: ref.slice(prefix.length) }
}

/** The subject was checked to be a SPIFFE ID. */
function spiffeParts(claims: Claims): DerivedSelectors {
  const [id] = claimTexts(claims, ['sub'])
  const [, trustDomain, path] = /^spiffe:\/\/([^/]+)(\/.+)$/.exec(id ?? '') ?? []
  if (id === undefined || trustDomain === undefined || path === undefined) return {}
  return { source_spiffe_id: [id, encodeURIComponent(id)], source_trust_domain: trustDomain, source_path: path }
}
