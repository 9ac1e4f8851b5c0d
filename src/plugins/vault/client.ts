import type { Clock } from '../../core/clock.ts'
import { errorMessage, StatusError } from '../../core/error.ts'
import type { Fetch } from './tls-fetch.ts'

/** How the server proves itself to Vault. */
export type VaultAuth =
  | { readonly method: 'token'; readonly token: string }
  /** POST to `auth/<mount>/login`; the body is made anew each time, since tokens in files change. */
  | { readonly method: 'login'; readonly mount: string; readonly body: () => Promise<object> | object }

export interface VaultOptions {
  /** `https://vault.example.org:8200`. */
  readonly address: string
  readonly namespace?: string
  readonly auth: VaultAuth
  readonly fetch: Fetch
  readonly clock: Clock
}

/** An answer of Vault with `errors`; `status` is HTTP's. */
export class VaultError extends StatusError {
  readonly status: number
  constructor(status: number, message: string, options?: { readonly cause?: unknown }) {
    super('INTERNAL', message, options)
    this.status = status
  }
}

/** Sends one request, authenticated. @returns `data` of the answer, empty if there is none. @throws VaultError */
export type VaultSend = (method: 'GET' | 'POST' | 'DELETE' | 'LIST', path: string, body?: object) => Promise<VaultData>
export type VaultData = Readonly<Record<string, unknown>>

const TIMEOUT_MS = 30_000

interface Token {
  readonly value: string
  /** From then on it is renewed or replaced; undefined: it does not end. */
  readonly renewAtMs: number | undefined
  readonly renewable: boolean
}

/**
 * A Vault (or OpenBao) client: logs in when it must, renews its token when a third of its life is left, and logs in anew when Vault does
 * not know the token any more.
 */
export function vaultClient(options: VaultOptions): VaultSend {
  const { auth, clock } = options
  const base = `${options.address.replace(/\/+$/, '')}/v1/`
  let token: Promise<Token> | undefined

  async function send(method: string, path: string, body: object | undefined, credential: string | undefined) {
    const headers: Record<string, string> = { 'x-vault-request': 'true', accept: 'application/json' }
    if (credential !== undefined) headers['x-vault-token'] = credential
    if (options.namespace) headers['x-vault-namespace'] = options.namespace
    if (body !== undefined) headers['content-type'] = 'application/json'
    let status: number
    let text: string
    try {
      const response = await options.fetch(base + path, {
        method,
        headers,
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        signal: AbortSignal.timeout(TIMEOUT_MS),
      })
      status = response.status
      text = await response.text()
    } catch (error) {
      throw new VaultError(0, `${options.address} does not answer: ${errorMessage(error)}`, { cause: error })
    }
    if (status >= 200 && status < 300) return text === '' ? {} : (JSON.parse(text) as Answer)
    throw new VaultError(status, `Vault answered with HTTP status ${status}${reasons(text)}`)
  }

  async function logIn(): Promise<Token> {
    if (auth.method === 'token') return describe(auth.token)
    try {
      const answer = await send('POST', `auth/${auth.mount}/login`, await auth.body(), undefined)
      const { client_token: value, lease_duration: seconds, renewable } = answer.auth ?? {}
      if (!value) throw new VaultError(0, 'it gave no token')
      return { value, renewAtMs: renewAt(seconds), renewable: renewable === true }
    } catch (error) {
      throw failed('authentication failed', error)
    }
  }

  /** A configured token says itself how long it lives. */
  async function describe(value: string): Promise<Token> {
    try {
      const { data } = await send('GET', 'auth/token/lookup-self', undefined, value)
      return { value, renewAtMs: renewAt(data?.ttl as number | undefined), renewable: data?.renewable === true }
    } catch (error) {
      throw failed('authentication failed', error)
    }
  }

  const renewAt = (seconds: number | undefined) => (seconds ? clock.nowMs() + (seconds * 2000) / 3 : undefined)

  async function renewed(old: Token): Promise<Token> {
    if (!old.renewable) return logIn()
    try {
      const { auth: next } = await send('POST', 'auth/token/renew-self', {}, old.value)
      return { value: old.value, renewAtMs: renewAt(next?.lease_duration), renewable: next?.renewable === true }
    } catch {
      // At the end of its longest life a token cannot be renewed; logging in says what is wrong if that fails too.
      return logIn()
    }
  }

  async function current(): Promise<Token> {
    token ??= remember(logIn())
    const asked = token
    const known = await asked
    if (known.renewAtMs === undefined || clock.nowMs() < known.renewAtMs) return known
    return following(asked, () => renewed(known))
  }

  /** The token after one that is used up: whoever finds that out first sees to it, and others wait for the same. */
  function following(former: Promise<Token> | undefined, next: () => Promise<Token>): Promise<Token> {
    if (token === undefined || token === former) token = remember(next())
    return token
  }

  /** One login for all that wait for it; one that failed is not kept. */
  function remember(login: Promise<Token>): Promise<Token> {
    login.catch(() => {
      if (token === login) token = undefined
    })
    return login
  }

  return async (method, path, body) => {
    const first = await current()
    const former = token
    try {
      return (await send(method, path, body, first.value)).data ?? {}
    } catch (error) {
      if (!(error instanceof VaultError) || error.status !== 403 || auth.method === 'token') throw error
      // Revoked, or Vault was restored from a backup: one more login decides whether we have the right.
      const { value } = await following(former, logIn)
      return (await send(method, path, body, value)).data ?? {}
    }
  }
}

interface Answer {
  readonly data?: VaultData
  readonly auth?: { readonly client_token?: string; readonly lease_duration?: number; readonly renewable?: boolean }
}

function failed(what: string, error: unknown): VaultError {
  const status = error instanceof VaultError ? error.status : 0
  return new VaultError(status, `${what}: ${errorMessage(error)}`, { cause: error })
}

/** `{"errors": ["..."]}`; Vault does not repeat what it was sent. */
function reasons(text: string): string {
  try {
    const { errors } = JSON.parse(text) as { errors?: unknown }
    return Array.isArray(errors) && errors.length > 0 ? `: ${errors.map(String).join('; ').slice(0, 300)}` : ''
  } catch {
    return ''
  }
}
