import { errorMessage } from '../../core/error.ts'
import type { KeyType, Signer } from '../../core/key-type.ts'
import type { SpiffeId } from '../../core/spiffe-id.ts'
import type { Server } from '../../server/server.ts'
import type { HealthCheck } from '../health-listener.ts'

const MAX_FAILED_ROTATIONS = 10

/** What must work for the server to be healthy, under SPIRE's names. */
export function serverHealthChecks(server: Server, newKey: (type: KeyType) => Promise<Signer>): HealthCheck[] {
  const { deps, manager } = server
  return [
    {
      name: 'server',
      check: () =>
        outcome('get_bundle_err', async () => {
          if (!(await deps.bundle.get())) throw new Error('unable to fetch bundle: bundle not found')
        }),
    },
    {
      name: 'server.ca',
      check: () =>
        outcome('sign_x509_svid_err', async () => {
          const key = await newKey('ec-p256')
          const id = `spiffe://${deps.trustDomain}/for/health/check/only` as SpiffeId
          await deps.ca.signWorkloadX509({ id, spki: key.publicKey, ttlSeconds: 60 })
        }),
    },
    {
      name: 'server.ca.rotator',
      check: () =>
        outcome('rotation_err', async () => {
          if (manager.failedRotations > MAX_FAILED_ROTATIONS) throw new Error('rotations failed too often')
        }),
    },
    { name: 'catalog.datastore', check: () => outcome('list_bundle_err', () => deps.store.bundles.count()) },
  ]
}

async function outcome(key: string, look: () => Promise<unknown>) {
  try {
    await look()
    return { live: true, ready: true, details: {} }
  } catch (error) {
    return { live: false, ready: false, details: { [key]: errorMessage(error) } }
  }
}
