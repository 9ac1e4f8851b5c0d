import { readFile } from 'node:fs/promises'
import { errorMessage } from '../../core/error.ts'

export interface AwsCredentials {
  readonly accessKeyId: string
  readonly secretAccessKey: string
  readonly sessionToken?: string
  /** Milliseconds since 1970; undefined: they do not end. */
  readonly expiresAtMs?: number
}

/** Gives credentials that are good for at least some minutes more. */
export type CredentialsProvider = () => Promise<AwsCredentials>

export interface CredentialsOptions {
  /** From the configuration: they win over everything else. */
  readonly accessKeyId?: string
  readonly secretAccessKey?: string
  readonly region: string
  readonly env: Readonly<Record<string, string | undefined>>
  readonly nowMs: () => number
}

/** Credentials are asked for anew this long before they end. */
const MARGIN_MS = 5 * 60_000
const TIMEOUT_MS = 5_000
const INSTANCE_METADATA = 'http://169.254.169.254'
const CONTAINER_METADATA = 'http://169.254.170.2'

/**
 * Credentials as AWS's own clients look for them: given ones, the environment, a web identity token (IRSA), the container endpoint
 * (ECS, EKS Pod Identity), the instance's role (IMDSv2). Those that end are kept until shortly before.
 */
export function awsCredentials(options: CredentialsOptions): CredentialsProvider {
  const { env, nowMs } = options
  let kept: AwsCredentials | undefined
  let looking: Promise<AwsCredentials> | undefined
  return async () => {
    if (kept && (kept.expiresAtMs === undefined || kept.expiresAtMs - MARGIN_MS > nowMs())) return kept
    // One look for all that wait for it.
    looking ??= find().finally(() => {
      looking = undefined
    })
    kept = await looking
    return kept
  }

  async function find(): Promise<AwsCredentials> {
    const given = fixed(options.accessKeyId, options.secretAccessKey)
    if (given) return given
    const fromEnvironment = fixed(env.AWS_ACCESS_KEY_ID, env.AWS_SECRET_ACCESS_KEY, env.AWS_SESSION_TOKEN)
    if (fromEnvironment) return fromEnvironment
    if (env.AWS_WEB_IDENTITY_TOKEN_FILE && env.AWS_ROLE_ARN) return fromWebIdentity(options, env.AWS_ROLE_ARN)
    const container =
      env.AWS_CONTAINER_CREDENTIALS_FULL_URI ??
      (env.AWS_CONTAINER_CREDENTIALS_RELATIVE_URI &&
        `${CONTAINER_METADATA}${env.AWS_CONTAINER_CREDENTIALS_RELATIVE_URI}`)
    if (container) return fromContainer(container, env)
    return fromInstance(env)
  }
}

function fixed(accessKeyId?: string, secretAccessKey?: string, sessionToken?: string): AwsCredentials | undefined {
  if (!accessKeyId || !secretAccessKey) return undefined
  return { accessKeyId, secretAccessKey, ...(sessionToken ? { sessionToken } : {}) }
}

/** AssumeRoleWithWebIdentity needs no signature: the token is the credential. */
async function fromWebIdentity({ env, region }: CredentialsOptions, roleArn: string): Promise<AwsCredentials> {
  const token = (await readFile(env.AWS_WEB_IDENTITY_TOKEN_FILE!, 'utf8')).trim()
  const body = new URLSearchParams({
    Action: 'AssumeRoleWithWebIdentity',
    Version: '2011-06-15',
    RoleArn: roleArn,
    RoleSessionName: env.AWS_ROLE_SESSION_NAME ?? 'turret-server',
    WebIdentityToken: token,
  })
  const answer = await ask('the web identity', awsEndpoint('sts', region, env), { method: 'POST', body })
  const part = (name: string) => new RegExp(`<${name}>([^<]*)</${name}>`).exec(answer)?.[1] ?? ''
  return temporary(part('AccessKeyId'), part('SecretAccessKey'), part('SessionToken'), part('Expiration'))
}

async function fromContainer(url: string, env: CredentialsOptions['env']): Promise<AwsCredentials> {
  const { protocol, hostname } = new URL(url)
  // The token must not leave the host in the clear: plain HTTP is only for the addresses AWS serves it from.
  if (
    protocol !== 'https:' &&
    !/^(127\.\d+\.\d+\.\d+|localhost|\[::1\]|169\.254\.170\.(2|23)|\[fd00:ec2::23\])$/.test(hostname)
  )
    throw new Error(`AWS_CONTAINER_CREDENTIALS_FULL_URI: ${hostname} is not an address that serves credentials`)
  const file = env.AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE
  const authorization = file ? (await readFile(file, 'utf8')).trim() : env.AWS_CONTAINER_AUTHORIZATION_TOKEN
  return fromJson(await ask('the container', url, authorization ? { headers: { authorization } } : {}))
}

async function fromInstance(env: CredentialsOptions['env']): Promise<AwsCredentials> {
  const base = env.AWS_EC2_METADATA_SERVICE_ENDPOINT?.replace(/\/$/, '') ?? INSTANCE_METADATA
  const token = await ask('the instance', `${base}/latest/api/token`, {
    method: 'PUT',
    headers: { 'x-aws-ec2-metadata-token-ttl-seconds': '300' },
  })
  const headers = { 'x-aws-ec2-metadata-token': token }
  const roles = `${base}/latest/meta-data/iam/security-credentials/`
  const [role] = (await ask('the instance', roles, { headers })).trim().split('\n')
  if (!role) throw new Error('the instance has no role')
  return fromJson(await ask('the instance', `${roles}${role}`, { headers }))
}

function fromJson(text: string): AwsCredentials {
  const answer = JSON.parse(text) as Record<string, unknown>
  const part = (name: string) => (typeof answer[name] === 'string' ? answer[name] : '')
  return temporary(part('AccessKeyId'), part('SecretAccessKey'), part('Token'), part('Expiration'))
}

function temporary(accessKeyId: string, secretAccessKey: string, sessionToken: string, expiration: string) {
  const credentials = fixed(accessKeyId, secretAccessKey, sessionToken)
  const expiresAtMs = Date.parse(expiration)
  if (!credentials || Number.isNaN(expiresAtMs)) throw new Error('AWS gave credentials that are incomplete')
  return { ...credentials, expiresAtMs }
}

/** @throws Error that names where the credentials should have come from, and nothing of what came */
async function ask(source: string, url: string, init: RequestInit): Promise<string> {
  let response: Response
  try {
    response = await fetch(url, { ...init, redirect: 'error', signal: AbortSignal.timeout(TIMEOUT_MS) })
  } catch (error) {
    throw new Error(`no AWS credentials from ${source}: ${errorMessage(error)}`, { cause: error })
  }
  if (!response.ok) throw new Error(`no AWS credentials from ${source}: HTTP status ${response.status}`)
  return response.text()
}

/** Where a service of a region is; AWS's own variables for other endpoints are followed. */
export function awsEndpoint(service: string, region: string, env: CredentialsOptions['env']): string {
  const own = env[`AWS_ENDPOINT_URL_${service.toUpperCase()}`] ?? env.AWS_ENDPOINT_URL
  if (own) return own
  return `https://${service}.${region}.amazonaws.com${region.startsWith('cn-') ? '.cn' : ''}/`
}
