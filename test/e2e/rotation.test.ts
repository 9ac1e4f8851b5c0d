import { afterAll, expect, test } from 'vitest'
import { parseCertificates } from '../../src/core/certificate.ts'
import { verifyX509Svid } from '../../src/core/path-validation.ts'
import { nodeVerifier } from '../../src/plugins/signer.ts'
import { Cluster, eventually, Final, holdX509 } from '../support/cluster.ts'

const cluster = new Cluster()
afterAll(() => cluster.stop(), 30_000)

test('a workload that holds a stream is never without a valid SVID while its authorities rotate', async () => {
  const { server, agent } = await cluster.startPair('short', {
    server: 'ca_ttl = "30s"\n  default_x509_svid_ttl = "12s"',
  })
  await cluster.entry(server, 'short/agent', 'workload')
  const stream = await holdX509(agent.socket)
  const verify = nodeVerifier()
  const issuers = new Set<string>()
  let looks = 0
  await eventually(async () => {
    if (stream.ended()) throw new Final(`the stream ended: ${stream.ended()}`)
    const update = stream.updates[stream.updates.length - 1]
    if (!update) throw new Error('no update yet')
    // What the workload holds is good at this moment, not only when it came: one look that fails is a gap.
    const { x509Svid, bundle } = update.svids[0]!
    const [leaf] = parseCertificates(x509Svid)
    const chain = [leaf!.der]
    await verifyX509Svid({
      chain,
      rootsOf: () => parseCertificates(bundle),
      at: Math.floor(Date.now() / 1000),
      verify,
    }).catch((error) => {
      throw new Final(`an SVID was not valid while it was held: ${error}`)
    })
    issuers.add(Buffer.from(leaf!.authorityKeyId!).toString('hex'))
    looks += 1
    if (issuers.size < 2) throw new Error(`${issuers.size} authorities so far`)
  }, 60_000)
  expect(looks).toBeGreaterThan(100)
  await stream.stop()
  expect(cluster.log('short-agent')).toContain('Successfully rotated agent SVID')
}, 90_000)
