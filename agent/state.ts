import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isJsonObject } from '../src/core/json-object.ts'

/** What an agent keeps over a restart. Certificates are DER here and base64 of PEM in the file, as SPIRE writes it. */
export interface AgentState {
  /** Leaf first; empty: none. */
  readonly svid: readonly Uint8Array[]
  /** Roots of the own trust domain; empty: none. */
  readonly bundle: readonly Uint8Array[]
  readonly reattestable: boolean
  /** 0 unspecified, 1 bootstrap, 2 rebootstrap. */
  readonly bootstrapUse: 0 | 1 | 2
  /** RFC 3339; Go's zero time when healthy. */
  readonly bootstrapStartTime: string
  readonly connectionAttempts: number
}

const ZERO_TIME = '0001-01-01T00:00:00Z'
const EMPTY: AgentState = {
  svid: [],
  bundle: [],
  reattestable: false,
  bootstrapUse: 0,
  bootstrapStartTime: ZERO_TIME,
  connectionAttempts: 0,
}

/** Replaces a file, mode 0600, so that a crash leaves the old one or the new one. */
export type ReplaceFile = (path: string, text: string) => Promise<void>

/** `<data_dir>/agent-data.json`, mode 0600, replaced atomically. */
export class StateFile {
  readonly #path: string
  readonly #replace: ReplaceFile
  #state: AgentState
  #writing: Promise<void> = Promise.resolve()

  private constructor(path: string, state: AgentState, replace: ReplaceFile) {
    this.#path = path
    this.#replace = replace
    this.#state = state
  }

  /**
   * Opens the state in a data directory, which is made if it is missing.
   * @throws Error `failed to open storage: ...` if the file is corrupt; it is left as it is
   */
  static async open(dataDir: string, replace: ReplaceFile): Promise<StateFile> {
    const path = join(dataDir, 'agent-data.json')
    try {
      await mkdir(dataDir, { recursive: true, mode: 0o755 })
      const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT') return undefined
        throw error
      })
      return new StateFile(path, text === undefined ? EMPTY : parse(text), replace)
    } catch (error) {
      throw new Error(`failed to open storage: ${path}: ${(error as Error).message}`, { cause: error })
    }
  }

  get state(): AgentState {
    return this.#state
  }

  /** Changes the state and writes it; writes follow one another. */
  async save(changes: Partial<AgentState>): Promise<void> {
    this.#state = { ...this.#state, ...changes }
    const text = print(this.#state)
    const write = this.#writing.then(() => this.#replace(this.#path, text))
    this.#writing = write.catch(() => {})
    await write
  }

  /** Forgets the SVID, keeps the bundle. */
  forgetSvid(): Promise<void> {
    return this.save({ svid: [], reattestable: false })
  }
}

function parse(text: string): AgentState {
  const fields: unknown = JSON.parse(text)
  if (!isJsonObject(fields)) throw new Error('a JSON object is expected')
  const use = fields.bootstrap_use
  return {
    svid: certificates(fields.svid, 'svid'),
    bundle: certificates(fields.bundle, 'bundle'),
    reattestable: fields.reattestable === true,
    bootstrapUse: use === 1 || use === 2 ? use : 0,
    bootstrapStartTime: typeof fields.bootstrap_start_time === 'string' ? fields.bootstrap_start_time : ZERO_TIME,
    connectionAttempts: typeof fields.connection_attempts === 'number' ? fields.connection_attempts : 0,
  }
}

function certificates(value: unknown, name: string): Uint8Array[] {
  if (value === undefined || value === null) return []
  if (!Array.isArray(value)) throw new Error(`"${name}" is not a list`)
  return value.map((item) => {
    const pem = Buffer.from(String(item), 'base64').toString('latin1')
    const match = /^-----BEGIN CERTIFICATE-----\n([A-Za-z0-9+/=\n]+)-----END CERTIFICATE-----\n$/.exec(pem)
    if (!match) throw new Error(`"${name}" holds something that is not a PEM certificate`)
    return new Uint8Array(Buffer.from(match[1]!, 'base64'))
  })
}

function print(state: AgentState): string {
  const list = (items: readonly Uint8Array[]) => (items.length === 0 ? null : items.map((der) => toPemBase64(der)))
  return JSON.stringify({
    svid: list(state.svid),
    bundle: list(state.bundle),
    reattestable: state.reattestable,
    bootstrap_use: state.bootstrapUse,
    bootstrap_start_time: state.bootstrapStartTime,
    connection_attempts: state.connectionAttempts,
  })
}

function toPemBase64(der: Uint8Array): string {
  const lines = Buffer.from(der)
    .toString('base64')
    .replace(/.{64}(?=.)/g, '$&\n')
  return Buffer.from(`-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`).toString('base64')
}
