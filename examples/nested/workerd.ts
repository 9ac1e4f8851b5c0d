// Runs the server on workerd, as Cloudflare does: `workerd.ts FOLDER PORT OPERATOR_KEY`. The database lies in FOLDER and starts empty.
import { randomBytes } from 'node:crypto'
import { startWorkerd } from '../edge/workerd.ts'

const [folder, port, operatorKey] = process.argv.slice(2) as [string, string, string]
const worker = await startWorkerd({
  folder,
  port: Number(port),
  variables: {
    TRUST_DOMAIN: 'example.org',
    AUDIENCES: `http://127.0.0.1:${port}`,
    OPERATOR_KEYS: operatorKey,
    KEK: randomBytes(32).toString('hex'),
  },
  logLevel: 'warn',
})
for (const signal of ['SIGTERM', 'SIGINT'] as const)
  process.on(signal, () => worker.dispose().then(() => process.exit(0)))
await worker.ready
