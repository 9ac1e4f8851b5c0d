// Runs the server on workerd, as Cloudflare does: `workerd.ts FOLDER PORT OPERATOR_KEY`. The database lies in FOLDER and starts empty.
import { randomBytes } from 'node:crypto'
import { resolve } from 'node:path'
import { unstable_startWorker } from 'wrangler'

const [folder, port, operatorKey] = process.argv.slice(2) as [string, string, string]
const variables = {
  TRUST_DOMAIN: 'example.org',
  AUDIENCES: `http://127.0.0.1:${port}`,
  OPERATOR_KEYS: operatorKey,
  KEK: randomBytes(32).toString('hex'),
}
const worker = await unstable_startWorker({
  config: resolve(import.meta.dirname, '../../wrangler.toml'),
  bindings: Object.fromEntries(
    Object.entries(variables).map(([name, value]) => [name, { type: 'plain_text' as const, value }]),
  ),
  dev: {
    server: { hostname: '127.0.0.1', port: Number(port) },
    inspector: false,
    logLevel: 'warn',
    watch: false,
    persist: folder,
  },
})
for (const signal of ['SIGTERM', 'SIGINT'] as const)
  process.on(signal, () => worker.dispose().then(() => process.exit(0)))
await worker.ready
