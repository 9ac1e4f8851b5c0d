import { afterAll, expect, test } from 'vitest'
import { parseCertificates } from '../../src/core/certificate.ts'
import { hex } from '../../src/core/der.ts'
import { Cluster, eventually, Final, holdX509 } from '../support/cluster.ts'

const cluster = new Cluster()
afterAll(() => cluster.stop(), 30_000)

test('a workload gets an SVID of the new authority when the old one is tainted, and the old one can go', async () => {
  const { server, agent } = await cluster.startPair('pair')
  await cluster.entry(server, 'pair/agent', 'workload')
  const stream = await holdX509(agent.socket)
  const issuer = () => {
    if (stream.ended()) throw new Final(`the stream ended: ${stream.ended()}`)
    const update = stream.updates[stream.updates.length - 1]
    if (!update) throw new Error('no update yet')
    const { x509Svid, bundle } = update.svids[0]!
    return {
      issuer: hex(parseCertificates(x509Svid)[0]!.authorityKeyId!),
      roots: parseCertificates(bundle).map(({ subjectKeyId }) => hex(subjectKeyId!)),
    }
  }
  const old = (await eventually(async () => issuer())).issuer
  const authority = (...args: string[]) => cluster.must(server, 'localauthority', 'x509', ...args)
  const prepared = /Authority ID: (\S+)/.exec(await authority('prepare'))![1]!
  await authority('activate', '-authorityID', prepared)
  await authority('taint', '-authorityID', old)
  await eventually(async () => {
    if (issuer().issuer !== prepared) throw new Error('still the old one')
  })
  // The agent itself is served by the new authority too: it goes on after the old root is gone.
  await eventually(async () => {
    if (!cluster.log('pair-agent').includes('Successfully rotated agent SVID')) throw new Error('not renewed yet')
    if (cluster.log('pair-server').match(/Signed X509 SVID.*svid_rotator/g)!.length < 2)
      throw new Error('not rotated yet')
  })
  await authority('revoke', '-authorityID', old)
  await eventually(async () => {
    expect(issuer().roots).toEqual([prepared])
  })
  await cluster.entry(server, 'pair/agent', 'another')
  await eventually(async () => {
    if (stream.updates[stream.updates.length - 1]!.svids.length < 2) throw new Error('no second SVID yet')
  })
  await stream.stop()
}, 90_000)
