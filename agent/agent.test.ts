import { expect, test } from 'vitest'
import { parseCertificate } from '../src/core/certificate.ts'
import { type Log, silentLog } from '../src/core/log.ts'
import { parseSpiffeId } from '../src/core/spiffe-id.ts'
import { parseTrustDomainName } from '../src/core/trust-domain.ts'
import { serialDecimal } from '../src/core/x509-svid.ts'
import { memoryKeyManager } from '../src/plugins/keymanager/memory.ts'
import { generateSigner } from '../src/plugins/signer.ts'
import { AGENT_ID, emptyState, startAgent } from '../test/support/agent.ts'
import { testServer } from '../test/support/server.ts'
import { makeCertificate } from '../test/support/x509.ts'
import type { Agent } from './agent.ts'
import { SERVER } from './server-methods.ts'

const TRUST_DOMAIN = parseTrustDomainName('example.org')
const OTHER_AGENT = parseSpiffeId('spiffe://example.org/spire/agent/join_token/other')
const STRANGER = parseSpiffeId('spiffe://elsewhere.org/spire/agent/join_token/token')

test('an agent renews its SVID at half its life, and is the same then', async () => {
  const server = await testServer()
  const agent = await startAgent(server)
  const before = agent.identity
  server.clock.ms += 1_900_000
  await agent.rotateIfDue()
  expect(agent.identity.spiffeId).toBe(AGENT_ID)
  expect(agent.identity.chain).not.toEqual(before.chain)
  await server.store.close()
})

test('an agent that skips verification says so when there is a certificate, and not before', async () => {
  const [server, another] = [await testServer(), await testServer()]
  const warned: string[] = []
  const log: Log = { ...silentLog, warn: (message) => warned.push(message), child: () => log }
  await startAgent(server, { log })
  expect(warned).toEqual([])
  const judged: unknown[] = []
  await startAgent(another, { log, judge: (roots) => judged.push(roots?.length) })
  expect(judged).toEqual([undefined, 1])
  expect(warned).toEqual(['Insecure bootstrap enabled; skipping server certificate verification'])
  await another.store.close()
  await server.store.close()
})

test('an SVID of another agent, or for another key, is no renewal', async () => {
  const server = await testServer()
  const agent = await startAgent(server)
  const before = agent.identity
  server.clock.ms += 1_900_000
  const { ca } = server.deps
  const sign = ca.signAgentX509.bind(ca)
  ca.signAgentX509 = (_, spki) => sign(OTHER_AGENT, spki)
  await expect(agent.rotateIfDue()).rejects.toThrow(`the server renewed the agent's SVID as "${OTHER_AGENT}"`)
  const { publicKey } = await generateSigner('ec-p256')
  ca.signAgentX509 = (id) => sign(id, publicKey)
  await expect(agent.rotateIfDue()).rejects.toThrow('the server signed an agent SVID for another key')
  expect(agent.identity).toBe(before)
  await server.store.close()
})

test('whoever attests an agent as one of another trust domain is not its server', async () => {
  const server = await testServer()
  const { ca } = server.deps
  const sign = ca.signAgentX509.bind(ca)
  ca.signAgentX509 = (_, spki) => sign(STRANGER, spki)
  // Tried once: the time for more is over.
  const onTheWay = async () => {
    server.clock.ms += 61_000
  }
  await expect(startAgent(server, { onTheWay })).rejects.toThrow('the server is not of trust domain "example.org"')
  await server.store.close()
})

test('an agent with the SVID of another trust domain in its data does not start', async () => {
  const server = await testServer()
  const [state, keyManager] = [await emptyState(), memoryKeyManager()]
  const key = await keyManager.generateKey('agent-svid-A', 'ec-p256')
  const root = await makeCertificate({ name: 'root', ca: true })
  const issuedFor = async (id: string) =>
    server.deps.ca.signAgentX509(parseSpiffeId(id), key.publicKey).then(({ chain }) => chain)
  await state.save({ svid: await issuedFor(STRANGER), bundle: [root.der] })
  await expect(startAgent(server, { state, keyManager })).rejects.toThrow(
    `the stored SVID is of another trust domain: ${STRANGER}`,
  )
  // Its own is taken up.
  const own = await issuedFor(AGENT_ID)
  const { serial, notAfter } = parseCertificate(own[0]!)
  await server.store.nodes.recordAttestation({
    id: AGENT_ID,
    attestationType: 'join_token',
    serialNumber: serialDecimal(serial),
    expiresAt: notAfter,
    canReattest: false,
    selectors: [],
  })
  await state.save({ svid: own })
  const agent = await startAgent(server, { state, keyManager })
  expect(agent.identity.chain).toEqual(own)
  await server.store.close()
})

test('a bundle without X.509 authorities is not taken: nobody could be verified any more', async () => {
  const server = await testServer()
  const agent = await startAgent(server)
  await agent.sync()
  const before = agent.cache.bundle(TRUST_DOMAIN)
  expect(before?.x509Authorities.length).toBeGreaterThan(0)
  const { bundle } = server.deps
  const own = (await bundle.get())!
  bundle.get = async () => ({ ...own, x509Authorities: [], sequenceNumber: own.sequenceNumber + 1 })
  await expect(agent.sync()).rejects.toThrow('the server sent a bundle without X.509 authorities')
  expect(agent.cache.bundle(TRUST_DOMAIN)).toBe(before)
  await server.store.close()
})

test('an agent that comes back late in the life of its SVID renews it at once', async () => {
  const server = await testServer()
  const [state, keyManager] = [await emptyState(), memoryKeyManager()]
  await server.store.joinTokens.create({ value: 'token', expiresAt: server.clock.ms / 1000 + 600 })
  const before = (await startAgent(server, { state, keyManager })).identity
  server.clock.ms = (before.notAfter - 5) * 1000
  const agent = await startAgent(server, { state, keyManager })
  expect(agent.identity.spiffeId).toBe(AGENT_ID)
  expect(agent.identity.notAfter).toBeGreaterThan(before.notAfter)
  await server.store.close()
})

test('a call under way while the SVID is renewed is no eviction, a thousand times', async () => {
  const server = await testServer({ agentTtlSeconds: 60 })
  const stop = new AbortController()
  let agent: Agent | undefined
  let renews = false
  agent = await startAgent(server, {
    signal: stop.signal,
    useSyncAuthorizedEntries: false,
    // Renews while a call is on its way, and uses the new SVID at once, which ends the one before on the server.
    async onTheWay(path) {
      if (!renews || !path.endsWith('/GetAuthorizedEntries')) return
      renews = false
      server.clock.ms += 40_000
      await agent!.rotateIfDue()
      await agent!.connection.unary(SERVER.getAuthorizedEntries, { outputMask: undefined }, { timeoutMs: 1000 })
    },
  })
  const running = agent.run()
  const serials = new Set<string>()
  for (let round = 0; round < 1000; round++) {
    renews = true
    const done = agent.resync()
    agent.syncSoon()
    await Promise.race([done, running])
    serials.add(Buffer.from(agent.identity.chain[0]!).toString('base64'))
  }
  expect(serials.size).toBeGreaterThan(990)
  stop.abort()
  await running
  await server.store.close()
}, 120_000)
