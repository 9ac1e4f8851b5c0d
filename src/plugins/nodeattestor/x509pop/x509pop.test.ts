import { constants, createPrivateKey, generateKeyPairSync, sign } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { AT, type Made, makeCertificate } from '../../../../test/support/x509.ts'
import { base64, fromBase64 } from '../../../core/base64.ts'
import { parseCertificate } from '../../../core/certificate.ts'
import { webCryptoVerifier } from '../../../core/public-key.ts'
import { parseTrustDomain } from '../../../core/trust-domain.ts'
import { generateSigner, importSigner, nodeVerifier } from '../../signer.ts'
import { x509PopAgentAttestor } from './agent.ts'
import { type X509PopOptions, x509PopNodeAttestor } from './server.ts'

const root = await makeCertificate({ name: 'root', ca: true })
const middle = await makeCertificate({ name: 'middle', ca: true }, root)
const leaf = await makeCertificate(
  {
    name: 'node-1',
    ips: [[192, 0, 2, 9]],
    uris: ['x509pop://example.org/zone/a/b', 'spiffe://example.org/spire-exchange/n1'],
  },
  middle,
)
const CONTEXT = { peerAddress: '192.0.2.9' }

function attestor(options: Partial<X509PopOptions> = {}) {
  return x509PopNodeAttestor({
    trustDomain: parseTrustDomain('example.org'),
    mode: 'external_pki',
    roots: async () => [parseCertificate(root.der)],
    clock: { nowMs: () => AT * 1000 },
    verify: nodeVerifier(),
    ...options,
  })
}

function agent(certificates: readonly Made[] = [leaf, middle]) {
  const privateKey = createPrivateKey({
    key: Buffer.from(certificates[0]!.key.exportPrivateKey()),
    format: 'der',
    type: 'pkcs8',
  })
  return x509PopAgentAttestor(async () => ({ certificates: certificates.map((made) => made.der), privateKey }))
}

async function attest(server = attestor(), client = agent(), context = CONTEXT) {
  const attestation = await client.begin()
  const step = await server.start(attestation.payload, context)
  if (!('challenge' in step)) throw new Error('no challenge')
  const end = await server.resume(step.state, await attestation.respond(step.challenge), context)
  if (!('attributes' in end)) throw new Error('a second challenge')
  return end.attributes
}

function payload(...certificates: readonly Uint8Array[]): Uint8Array {
  return json({ certificates: certificates.map(base64) })
}

function json(value: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value))
}

test('a node that holds the key is attested, with what its certificates say as selectors', async () => {
  const { spiffeId, selectorValues, canReattest } = await attest()
  expect(spiffeId).toMatch(/^spiffe:\/\/example\.org\/spire\/agent\/x509pop\/[0-9a-f]{40}$/)
  expect(canReattest).toBe(true)
  expect(selectorValues[0]).toBe('subject:cn:node-1')
  expect(selectorValues.filter((value) => value.startsWith('ca:fingerprint:'))).toHaveLength(2)
  expect(selectorValues).toContain('san:zone:a/b')
  expect(selectorValues.find((value) => /^serialnumber:([0-9a-f]{2})+$/.test(value))).toBeDefined()
})

test('the CAs of every path are selectors, each once', async () => {
  const other = await makeCertificate({ name: 'other root', ca: true })
  const across = await makeCertificate({ name: 'middle', ca: true, key: middle.key }, other)
  const roots = async () => [root, other].map(({ der }) => parseCertificate(der))
  const fingerprints = async (...certificates: Made[]) =>
    (await attest(attestor({ roots }), agent([leaf, ...certificates]))).selectorValues.filter((value) =>
      value.startsWith('ca:fingerprint:'),
    )
  const [one, two] = [await fingerprints(middle), await fingerprints(across)]
  expect([one.length, two.length]).toEqual([2, 2])
  expect(new Set(await fingerprints(middle, across))).toEqual(new Set([...one, ...two]))
  expect(await fingerprints(middle, across, middle)).toHaveLength(4)
})

describe.each([
  ['node:crypto', nodeVerifier],
  ['Web Crypto', webCryptoVerifier],
])('verifying with %s', (_, verifier) => {
  test('an EC key proves itself, another one does not', async () => {
    const server = attestor({ verify: verifier() })
    expect((await attest(server)).selectorValues[0]).toBe('subject:cn:node-1')
    await expect(attest(server, agent([await makeCertificate({ name: 'other' })]))).rejects.toMatchObject({
      code: 'PERMISSION_DENIED',
    })
  })

  test.each([
    ['of the hash, as ours make it', constants.RSA_PSS_SALTLEN_DIGEST],
    ['that fills the key, as Go makes it', constants.RSA_PSS_SALTLEN_MAX_SIGN],
  ])('an RSA key proves itself by RSA-PSS with a salt %s', async (_salt, saltLength) => {
    const key = await generateSigner('rsa-2048')
    const rsa = await makeCertificate({ name: 'rsa', key }, middle)
    const server = attestor({ verify: verifier() })
    expect((await attest(server, agent([rsa, middle]))).selectorValues[0]).toBe('subject:cn:rsa')

    const step = await server.start(payload(rsa.der, middle.der), CONTEXT)
    if (!('challenge' in step)) throw new Error('no challenge')
    const challenge = fromBase64(JSON.parse(new TextDecoder().decode(step.challenge)).rsa_signature.nonce)
    const nonce = new Uint8Array(32).fill(7)
    const privateKey = createPrivateKey({ key: Buffer.from(key.exportPrivateKey()), format: 'der', type: 'pkcs8' })
    const signature = sign('sha256', Buffer.concat([challenge, nonce]), {
      key: privateKey,
      padding: constants.RSA_PKCS1_PSS_PADDING,
      saltLength,
    })
    const respond = (bytes: Uint8Array) =>
      new TextEncoder().encode(JSON.stringify({ rsa_signature: { nonce: base64(nonce), signature: base64(bytes) } }))
    expect(await server.resume(step.state, respond(new Uint8Array(signature)), CONTEXT)).toHaveProperty('attributes')
    const spoiled = new Uint8Array(signature)
    spoiled[9]! ^= 1
    await expect(server.resume(step.state, respond(spoiled), CONTEXT)).rejects.toMatchObject({
      message: 'challenge response verification failed: RSA signature verify failed',
    })
  })
})

test('the path comes from the template, in spiffe mode from the SVID', async () => {
  const template = '/{{ .PluginName }}/{{.TrustDomain}}/{{ .Subject.CommonName }}'
  expect((await attest(attestor({ agentPathTemplate: template }))).spiffeId).toBe(
    'spiffe://example.org/spire/agent/x509pop/example.org/node-1',
  )
  const svid = agent([
    await makeCertificate({ name: '', uris: ['spiffe://example.org/spire-exchange/n1'] }, middle),
    middle,
  ])
  expect((await attest(attestor({ mode: 'spiffe' }), svid)).spiffeId).toBe(
    'spiffe://example.org/spire/agent/x509pop/n1',
  )
  await expect(attest(attestor({ mode: 'spiffe', spiffePrefix: '/other' }), svid)).rejects.toMatchObject({
    code: 'PERMISSION_DENIED',
    message: 'x509 cert doesnt match SVID prefix',
  })
})

test.each([
  '{{ .Subject.Organization }}',
  '{{ if .X }}',
  '{{ .PluginName',
  '{{ .PluginName | upper }}',
  '{{ upper .PluginName }}',
])('a template with %s is refused when it is read', (template) => {
  expect(() => attestor({ agentPathTemplate: template })).toThrow('failed to parse agent svid template')
})

test('a huge RSA key is refused before anything is verified', async () => {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const key = importSigner(privateKey.export({ format: 'der', type: 'pkcs8' }))
  const large = await makeCertificate({ name: 'large', key }, middle)
  const failing = attestor({
    maxRsaKeySize: 2047,
    verify: () => {
      throw new Error('a signature was verified')
    },
  })
  await expect(failing.start(payload(large.der, middle.der), CONTEXT)).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    message: 'leaf certificate key size too large',
  })
  await expect(failing.start(payload(leaf.der, large.der), CONTEXT)).rejects.toMatchObject({
    message: 'intermediate certificate 0 key size too large',
  })
})

test('an RSA key of the greatest size is taken', async () => {
  const rsa = await makeCertificate({ name: 'rsa', key: await generateSigner('rsa-2048') }, middle)
  expect((await attest(attestor({ maxRsaKeySize: 2048 }), agent([rsa, middle]))).canReattest).toBe(true)
})

test('too many intermediates are refused before they are read', async () => {
  const rubbish = Uint8Array.of(1, 2, 3)
  const many = payload(leaf.der, rubbish, rubbish, rubbish, rubbish, rubbish)
  await expect(attestor().start(many, CONTEXT)).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    message: 'too many intermediate certificates',
  })
})

test.each([
  ['no JSON', new Uint8Array([1]), /^failed to unmarshal data: /],
  ['no certificate', payload(), /^no certificate to attest$/],
  ['null', json(null), /^no certificate to attest$/],
  ['a text', json({ certificates: 'x' }), /certificates is not a list of strings$/],
  ['an object', json({ certificates: { length: 1 } }), /certificates is not a list of strings$/],
  ['a list of numbers', json({ certificates: [7] }), /certificates is not a list of strings$/],
  ['a certificate and null', json({ certificates: [base64(leaf.der), null] }), /is not a list of strings$/],
  ['a leaf that is none', payload(Uint8Array.of(1)), /^unable to parse leaf certificate: /],
  [
    'an intermediate that is none',
    payload(leaf.der, Uint8Array.of(1)),
    /^unable to parse intermediate certificate 0: /,
  ],
])('%s is an invalid argument', async (_, bytes, message) => {
  await expect(attestor().start(bytes, CONTEXT)).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    message: expect.stringMatching(message),
  })
})

test('a chain to another root is refused', async () => {
  const other = await makeCertificate({ name: 'other', ca: true })
  await expect(
    attestor({ roots: async () => [parseCertificate(other.der)] }).start(payload(leaf.der, middle.der), CONTEXT),
  ).rejects.toMatchObject({
    code: 'PERMISSION_DENIED',
    message: expect.stringMatching(/^certificate verification failed: x509: /),
  })
})

test('the address of the node is compared if that is asked for', async () => {
  const server = attestor({ verifyClientIp: true })
  expect((await attest(server)).canReattest).toBe(true)
  await expect(attest(server, agent(), { peerAddress: '192.0.2.10' })).rejects.toMatchObject({
    code: 'PERMISSION_DENIED',
    message: 'client IP 192.0.2.10 does not match any certificate IP SAN',
  })
})

test('a signature by another key, or for another challenge, is refused', async () => {
  const server = attestor()
  const thief = await makeCertificate({ name: 'thief' }, middle)
  const step = await server.start(payload(leaf.der, middle.der), CONTEXT)
  if (!('challenge' in step)) throw new Error('no challenge')
  const response = await (await agent([thief]).begin()).respond(step.challenge)
  await expect(server.resume(step.state, response, CONTEXT)).rejects.toMatchObject({
    code: 'PERMISSION_DENIED',
    message: 'challenge response verification failed: ECDSA signature verify failed',
  })
  const earlier = await server.start(payload(leaf.der, middle.der), CONTEXT)
  if (!('challenge' in earlier)) throw new Error('no challenge')
  const replayed = await (await agent().begin()).respond(earlier.challenge)
  await expect(server.resume(step.state, replayed, CONTEXT)).rejects.toMatchObject({ code: 'PERMISSION_DENIED' })
})

test('a leaf that is not for signatures proves nothing: there is no challenge for it', async () => {
  for (const keyUsage of [undefined, Uint8Array.of(5, 0b0010_0000), Uint8Array.of(3, 0b0000_1000)]) {
    const made = await makeCertificate({ name: 'wrong use', keyUsage }, middle)
    await expect(attestor().start(payload(made.der, middle.der), CONTEXT)).rejects.toMatchObject({
      code: 'INTERNAL',
      message: 'unable to generate challenge: certificate not intended for digital signature use',
    })
  }
})

test('only URIs of x509pop and this trust domain become selectors', async () => {
  const made = await makeCertificate(
    {
      name: 'node-2',
      uris: [
        'x509pop://example.org/zone/a',
        'x509pop://other.org/zone/b',
        'x509pop://example.org.other/zone/c',
        'X509POP://example.org/zone/d',
        'https://example.org/zone/e',
        'x509pop://example.org/alone',
        'x509pop://example.org//empty',
        'x509pop://example.org//zone/g',
        'x509pop://example.org/zone/h\nx',
        'x509pop://example.org/empty/',
        'spiffe://example.org/zone/f',
      ],
    },
    middle,
  )
  const { selectorValues } = await attest(attestor(), agent([made, middle]))
  expect(selectorValues.filter((value) => value.startsWith('san:'))).toEqual(['san:zone:a'])
})

test('each node is asked another question', async () => {
  const questions = new Set<string>()
  for (let round = 0; round < 20; round += 1) {
    const step = await attestor().start(payload(leaf.der, middle.der), CONTEXT)
    if (!('challenge' in step)) throw new Error('no challenge')
    const { nonce } = JSON.parse(new TextDecoder().decode(step.challenge)).ecdsa_signature
    expect(fromBase64(nonce)).toHaveLength(32)
    questions.add(nonce)
  }
  expect(questions.size).toBe(20)
})

describe('a response', () => {
  const signer = createPrivateKey({ key: Buffer.from(leaf.key.exportPrivateKey()), format: 'der', type: 'pkcs8' })

  /** Answers a fresh challenge with what this makes of it. */
  async function outcome(
    make: (challenge: Uint8Array, signed: (own: Uint8Array) => { r: string; s: string }) => unknown,
  ) {
    const step = await attestor().start(payload(leaf.der, middle.der), CONTEXT)
    if (!('challenge' in step)) throw new Error('no challenge')
    const challenge = fromBase64(JSON.parse(new TextDecoder().decode(step.challenge)).ecdsa_signature.nonce)
    const signed = (own: Uint8Array) => {
      const both = sign('sha256', Buffer.concat([challenge, own]), { key: signer, dsaEncoding: 'ieee-p1363' })
      return { r: base64(both.subarray(0, 32)), s: base64(both.subarray(32)) }
    }
    const answer = make(challenge, signed)
    const encoded = typeof answer === 'string' ? answer : JSON.stringify(answer)
    try {
      await attestor().resume(step.state, new TextEncoder().encode(encoded), CONTEXT)
      return 'attested'
    } catch (error) {
      return (error as Error).message
    }
  }
  const own = new Uint8Array(32).fill(7)
  const unproven = (reason: string) => `challenge response verification failed: ${reason}`

  test('over both nonces attests', async () => {
    const found = await outcome((_, signed) => ({ ecdsa_signature: { nonce: base64(own), ...signed(own) } }))
    expect(found).toBe('attested')
  })

  test.each([0, 1, 31, 33, 64])('with a nonce of %i bytes proves nothing, though it is signed', async (size) => {
    const short = new Uint8Array(size).fill(7)
    const found = await outcome((_, signed) => ({ ecdsa_signature: { nonce: base64(short), ...signed(short) } }))
    expect(found).toBe(unproven('invalid response nonce'))
  })

  test.each<[string, Parameters<typeof outcome>[0], string]>([
    [
      'of the other kind',
      (_, signed) => ({ rsa_signature: { nonce: base64(own), signature: signed(own).r } }),
      unproven('expecting ECDSA response'),
    ],
    ['that is empty', () => ({}), unproven('expecting ECDSA response')],
    ['that is null', () => null, unproven('expecting ECDSA response')],
    [
      'over another nonce',
      (_, signed) => ({ ecdsa_signature: { nonce: base64(own), ...signed(own.map(() => 8)) } }),
      unproven('ECDSA signature verify failed'),
    ],
    [
      'with a first number that is too long',
      (_, signed) => ({ ecdsa_signature: { nonce: base64(own), ...signed(own), r: base64(new Uint8Array(33)) } }),
      unproven('ECDSA signature verify failed'),
    ],
    [
      'with zeros',
      () => ({ ecdsa_signature: { nonce: base64(own), r: '', s: '' } }),
      unproven('ECDSA signature verify failed'),
    ],
    [
      'with a number that is too long',
      (_, signed) => ({ ecdsa_signature: { nonce: base64(own), ...signed(own), s: base64(new Uint8Array(33)) } }),
      unproven('ECDSA signature verify failed'),
    ],
    [
      'without a number',
      (_, signed) => ({ ecdsa_signature: { nonce: base64(own), r: signed(own).r } }),
      unproven('ECDSA signature verify failed'),
    ],
    [
      'with no number',
      () => ({ ecdsa_signature: { nonce: base64(own), s: null } }),
      unproven('ECDSA signature verify failed'),
    ],
    ['without anything', () => ({ ecdsa_signature: {} }), unproven('invalid response nonce')],
    [
      'with a number that is no text',
      () => ({ ecdsa_signature: { nonce: base64(own), r: 1, s: '' } }),
      'unable to unmarshal challenge response: a byte field is no string',
    ],
    ['that is no JSON', () => 'x', 'unable to unmarshal challenge response: Unexpected token'],
    [
      'with a number that is no base64',
      () => ({ ecdsa_signature: { nonce: base64(own), r: '!', s: '' } }),
      'unable to unmarshal challenge response: illegal base64 data',
    ],
  ])('%s proves nothing', async (_, make, message) => {
    expect(await outcome(make)).toContain(message)
  })
})

test('in spiffe mode a certificate without SPIFFE ID attests nobody', async () => {
  const plain = await makeCertificate({ name: 'plain', uris: ['https://example.org/spire-exchange/n'] }, middle)
  await expect(attest(attestor({ mode: 'spiffe' }), agent([plain, middle]))).rejects.toMatchObject({
    code: 'PERMISSION_DENIED',
  })
})

test('the address of the node counts only if the certificate says it, and only as an address', async () => {
  const server = attestor({ verifyClientIp: true })
  await expect(attest(server, agent(), { peerAddress: '' })).rejects.toMatchObject({
    message: 'client IP not available for verification',
  })
  const named = await makeCertificate({ name: '192.0.2.9', dnsNames: ['192.0.2.9'] }, middle)
  await expect(attest(server, agent([named, middle]))).rejects.toMatchObject({ code: 'PERMISSION_DENIED' })
  // A name whose letters are the bytes of an address.
  const spelled = await makeCertificate({ name: 'spelled', dnsNames: ['a.bc'] }, middle)
  await expect(attest(server, agent([spelled, middle]), { peerAddress: '97.46.98.99' })).rejects.toMatchObject({
    code: 'PERMISSION_DENIED',
  })
})

test.each([
  [{ maxIntermediates: 0 }, 'max_intermediates must be greater than 0'],
  [{ maxRsaKeySize: 0 }, 'max_rsa_key_size must be greater than 0'],
])('the options %o are refused', (options, message) => {
  expect(() => attestor(options)).toThrow(message)
})

test.each([
  ['of another trust domain', ['spiffe://other.org/spire-exchange/n1'], 'x509 cert is an SVID of another trust domain'],
  [
    'with a second URI',
    ['spiffe://example.org/spire-exchange/n1', 'spiffe://other.org/x'],
    'valid SVID x509 cert not found',
  ],
  [
    'with a URI beside its ID',
    ['x509pop://example.org/a/b', 'spiffe://example.org/spire-exchange/n1'],
    'valid SVID x509 cert not found',
  ],
  ['whose ID is malformed', ['spiffe://example.org/spire-exchange/n1/'], 'valid SVID x509 cert not found'],
])('in spiffe mode an SVID %s attests nobody', async (_, uris, message) => {
  const svid = await makeCertificate({ name: '', uris }, middle)
  await expect(attest(attestor({ mode: 'spiffe' }), agent([svid, middle]))).rejects.toMatchObject({
    code: 'PERMISSION_DENIED',
    message,
  })
})

test('without the roots nobody is challenged', async () => {
  const roots = () => Promise.reject(new Error('the store is away'))
  await expect(attestor({ roots }).start(payload(leaf.der, middle.der), CONTEXT)).rejects.toMatchObject({
    code: 'INTERNAL',
    message: 'failed to get trust bundle: the store is away',
  })
})

test('a key of a kind that has no challenge proves nothing', async () => {
  const { publicKey } = generateKeyPairSync('ed25519')
  const key = { ...(await generateSigner('ec-p256')), publicKey: publicKey.export({ type: 'spki', format: 'der' }) }
  const odd = await makeCertificate(
    { name: 'ed25519', key: { ...key, publicKey: new Uint8Array(key.publicKey) } },
    middle,
  )
  await expect(attestor().start(payload(odd.der, middle.der), CONTEXT)).rejects.toMatchObject({
    code: 'INTERNAL',
    message: 'unable to generate challenge: unsupported public key type ed25519.PublicKey',
  })
})

test('a node is asked for the signature that its key makes, and for no other', async () => {
  const rsa = await makeCertificate({ name: 'rsa', key: await generateSigner('rsa-2048') }, middle)
  const asked = async (made: Made) => {
    const step = await attestor().start(payload(made.der, middle.der), CONTEXT)
    if (!('challenge' in step)) throw new Error('no challenge')
    return { step, challenge: JSON.parse(new TextDecoder().decode(step.challenge)) }
  }
  const { step, challenge } = await asked(rsa)
  expect(challenge).toEqual({ rsa_signature: { nonce: expect.any(String) }, ecdsa_signature: null })
  expect((await asked(leaf)).challenge).toEqual({ rsa_signature: null, ecdsa_signature: { nonce: expect.any(String) } })
  for (const response of [{}, null, { ecdsa_signature: { nonce: '', r: '', s: '' } }]) {
    await expect(attestor().resume(step.state, json(response), CONTEXT)).rejects.toMatchObject({
      code: 'PERMISSION_DENIED',
      message: 'challenge response verification failed: expecting RSA response',
    })
  }
})

test('a subject that makes no path makes no agent', async () => {
  const agentPathTemplate = '/{{ .PluginName }}/{{ .Subject.CommonName }}'
  for (const name of ['a b', '', '..', 'a/../b']) {
    const odd = await makeCertificate({ name }, middle)
    await expect(attest(attestor({ agentPathTemplate }), agent([odd, middle]))).rejects.toMatchObject({
      code: 'INTERNAL',
      message: expect.stringMatching(/^failed to make spiffe id: /),
    })
  }
})

test('the name of a node is its common name, whatever else is in its subject', async () => {
  const made = await makeCertificate({ name: 'node-3', subject: { country: ['DE'], serialNumber: '7' } }, middle)
  expect((await attest(attestor(), agent([made, middle]))).selectorValues[0]).toBe('subject:cn:node-3')
  const nameless = await makeCertificate({ name: '', subject: { serialNumber: '7' } }, middle)
  expect((await attest(attestor(), agent([nameless, middle]))).selectorValues[0]).toMatch(/^ca:fingerprint:/)
})

test.each([
  [[0x1a, 0x00, 0xbc], '1a00bc'],
  [[0x00, 0x9a], '9a'],
  [[0x0a], '0a'],
  [[0x00], '00'],
])('the serial number %j reads %s', async (serial, text) => {
  const made = await makeCertificate({ name: 'n', serial: Uint8Array.from(serial) }, middle)
  const agentPathTemplate = '/{{ .PluginName }}/{{ .SerialNumberHex }}'
  const { spiffeId, selectorValues } = await attest(attestor({ agentPathTemplate }), agent([made, middle]))
  expect(selectorValues).toContain(`serialnumber:${text}`)
  expect(spiffeId).toBe(`spiffe://example.org/spire/agent/x509pop/${text}`)
})

test('a prefix of SVIDs is one of whole segments', async () => {
  const svid = (path: string) => makeCertificate({ name: '', uris: [`spiffe://example.org${path}`] }, middle)
  const server = attestor({ mode: 'spiffe', spiffePrefix: '/nodes' })
  expect((await attest(server, agent([await svid('/nodes/n1'), middle]))).spiffeId).toMatch(/x509pop\/n1$/)
  await expect(attest(server, agent([await svid('/nodes-of-others/n1'), middle]))).rejects.toMatchObject({
    message: 'x509 cert doesnt match SVID prefix',
  })
})

test.each([
  ['for the other kind of key', { rsa_signature: { nonce: base64(new Uint8Array(32)) } }, 'expecting ECDSA challenge'],
  ['that asks nothing', {}, 'expecting ECDSA challenge'],
  ['of 31 bytes', { ecdsa_signature: { nonce: base64(new Uint8Array(31)) } }, 'invalid challenge nonce'],
  ['of 33 bytes', { ecdsa_signature: { nonce: base64(new Uint8Array(33)) } }, 'invalid challenge nonce'],
])('an agent signs no challenge %s', async (_, challenge, message) => {
  const { respond } = await agent().begin()
  await expect(respond(json(challenge))).rejects.toMatchObject({ code: 'INTERNAL', message })
})

test('an agent with an RSA key signs no challenge for another', async () => {
  const rsa = await makeCertificate({ name: 'rsa', key: await generateSigner('rsa-2048') }, middle)
  const { respond } = await agent([rsa, middle]).begin()
  const challenge = json({ ecdsa_signature: { nonce: base64(new Uint8Array(32)) } })
  await expect(respond(challenge)).rejects.toMatchObject({ message: 'expecting RSA challenge' })
})
