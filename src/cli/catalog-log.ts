import type { Log } from '../core/log.ts'

/** A plugin that was made, as lines of the log name it. */
export interface LoadedPlugin {
  readonly type: string
  readonly name: string
  /** Whether it reads a configuration. */
  readonly configured: boolean
}

/** SPIRE's lines of the catalog: what was loaded, and at the end that it is let go of. */
export class CatalogLog {
  readonly #log: Log
  readonly #loaded: Readonly<Record<string, string | boolean>>[] = []

  constructor(log: Log) {
    this.#log = log.child({ subsystem_name: 'catalog' })
  }

  loaded({ type, name, configured }: LoadedPlugin): void {
    const fields = { external: false, plugin_name: name, plugin_type: type }
    if (type === 'DataStore') {
      this.#log.info('Configured DataStore', { reconfigurable: false })
      return
    }
    if (configured) this.#log.info('Configured plugin', { ...fields, reconfigurable: false })
    this.#log.info('Plugin loaded', fields)
    this.#loaded.push(fields)
  }

  /** Runs the end of all plugins between the lines that tell of it. */
  async closing(close: () => Promise<void>): Promise<void> {
    this.#log.debug('Closing catalog')
    await close()
    for (const fields of this.#loaded.toReversed()) {
      this.#log.debug('Unloading plugin', fields)
      this.#log.debug('Plugin deinitialized', fields)
      this.#log.info('Plugin unloaded', fields)
    }
    this.#log.info('Catalog closed')
  }
}
