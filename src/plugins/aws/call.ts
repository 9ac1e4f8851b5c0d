import { AwsClient } from 'aws4fetch'
import { errorMessage, StatusError } from '../../core/error.ts'
import type { CredentialsProvider } from './credentials.ts'

export interface AwsServiceOptions {
  /** As in the signature: `kms`, `sts`. */
  readonly service: string
  readonly region: string
  readonly endpoint: string
  readonly credentials: CredentialsProvider
}

/** The error code that AWS gave, `AlreadyExistsException`; undefined for what never got there. */
export class AwsError extends StatusError {
  readonly awsCode: string | undefined
  constructor(awsCode: string | undefined, message: string, options?: { readonly cause?: unknown }) {
    super('INTERNAL', message, options)
    this.awsCode = awsCode
  }
}

const TIMEOUT_MS = 30_000
const RETRIES = 3

/** Sends one signed request and returns the body of the answer. @throws AwsError */
export type AwsSend = (headers: Readonly<Record<string, string>>, body: string) => Promise<string>

/** A service of AWS: requests are signed (Signature Version 4) and tried again while it is throttled. */
export function awsService({ service, region, endpoint, credentials }: AwsServiceOptions): AwsSend {
  return async (headers, body) => {
    const { accessKeyId, secretAccessKey, sessionToken } = await credentials().catch((error) => {
      throw new AwsError(undefined, errorMessage(error), { cause: error })
    })
    const client = new AwsClient({
      accessKeyId,
      secretAccessKey,
      ...(sessionToken ? { sessionToken } : {}),
      service,
      region,
      retries: RETRIES,
    })
    let response: Response
    let text: string
    try {
      const signal = AbortSignal.timeout(TIMEOUT_MS)
      response = await client.fetch(endpoint, { method: 'POST', headers, body, redirect: 'error', signal })
      text = await response.text()
    } catch (error) {
      throw new AwsError(undefined, `${service} does not answer: ${errorMessage(error)}`, { cause: error })
    }
    if (!response.ok) throw refusal(service, response.status, text)
    return text
  }
}

/** JSON protocols say `{"__type":"ns#Code","message":"..."}`, query protocols `<Code>`, `<Message>`. */
function refusal(service: string, status: number, text: string): AwsError {
  const code = /"__type"\s*:\s*"(?:[^"#]*#)?([A-Za-z]+)"/.exec(text)?.[1] ?? /<Code>([A-Za-z]+)<\/Code>/.exec(text)?.[1]
  const message = /"[Mm]essage"\s*:\s*"([^"]{0,300})/.exec(text)?.[1] ?? /<Message>([^<]{0,300})/.exec(text)?.[1]
  return new AwsError(
    code,
    `${code ?? `${service} answered with HTTP status ${status}`}${message ? `: ${message}` : ''}`,
  )
}
