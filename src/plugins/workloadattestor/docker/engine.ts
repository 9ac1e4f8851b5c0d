import { errorMessage } from '../../../core/error.ts'
import { get } from '../../process/http-answer.ts'

/** What is asked of a container. */
export interface Container {
  readonly id: string
  /** On this machine; 0 if it does not run. */
  readonly pid: number
  /** As it was named when the container was made. */
  readonly imageName: string
  /** Of the image that it runs. */
  readonly imageId: string
  readonly labels: readonly (readonly [name: string, value: string])[]
  readonly env: readonly string[]
}

/** How an engine is reached: a unix socket, or a host. */
export type EngineAddress = { readonly socketPath: string } | { readonly host: string; readonly port: number }

const MAX_BYTES = 4 * 1024 * 1024

/** @throws Error with SPIRE's text */
export function parseEngineAddress(text: string): EngineAddress {
  const path = /^unix:\/\/(.+)$/.exec(text)?.[1]
  if (path !== undefined) return { socketPath: path }
  if (/^(tcp|http):\/\/./.test(text) && URL.canParse(text)) {
    const { hostname, port } = new URL(text.replace(/^tcp:/, 'http:'))
    return { host: hostname, port: Number(port || '80') }
  }
  throw new Error(`unable to parse docker host \`${text}\``)
}

/** Docker's HTTP API, which Podman speaks as well. */
export class Engine {
  readonly #address: EngineAddress
  readonly #prefix: string

  /** @param version of the API; empty: the engine's own */
  constructor(address: EngineAddress, version: string) {
    this.#address = address
    this.#prefix = version === '' ? '' : `/v${version.replace(/^v/, '')}`
  }

  /** @throws Error, also if the answer is of another container: engines take names and short IDs for IDs */
  async container(id: string, signal: AbortSignal): Promise<Container> {
    const answer = await this.#ask(`/containers/${encodeURIComponent(id)}/json`, signal)
    const config = record(answer.Config)
    if (answer.Id !== id) throw new Error('the engine answered with another container')
    return {
      id,
      pid: Number(record(answer.State).Pid),
      imageName: text(config.Image),
      imageId: text(answer.Image),
      labels: Object.entries(record(config.Labels ?? {})).map(([name, value]) => [name, text(value)]),
      env: Array.isArray(config.Env) ? config.Env.map(text) : [],
    }
  }

  /** The ID of an image. @throws Error */
  async imageId(name: string, signal: AbortSignal): Promise<string> {
    const path = name.split('/').map(encodeURIComponent).join('/')
    return text((await this.#ask(`/images/${path}/json`, signal)).Id)
  }

  async #ask(path: string, signal: AbortSignal): Promise<Record<string, unknown>> {
    const options = { ...this.#address, path: `${this.#prefix}${path}`, headers: { host: 'docker' } }
    const { status, body } = await get(options, MAX_BYTES, signal)
    if (status !== 200) throw new Error(`Error response from daemon: ${status} ${body.slice(0, 200)}`)
    try {
      return record(JSON.parse(body))
    } catch (error) {
      throw new Error(`the engine's answer cannot be read: ${errorMessage(error)}`)
    }
  }
}

function record(value: unknown): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new Error('not an object')
  return value as Record<string, unknown>
}

function text(value: unknown): string {
  if (typeof value !== 'string') throw new Error('not a text')
  return value
}
