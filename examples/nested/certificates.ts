import { createHash } from 'node:crypto'
import { encodePem } from '../../src/core/pem.ts'
import { subjectKeyId } from '../../src/core/public-key.ts'
import { encodeName } from '../../src/core/x509-name.ts'
import { issuerOf, randomSerial, signCertificate } from '../../src/core/x509-svid.ts'
import { generateSigner } from '../../src/plugins/signer.ts'

const DAY = 86400
const random = (bytes: Uint8Array) => crypto.getRandomValues(bytes as Uint8Array<ArrayBuffer>)

/** A certificate of a machine, as an installer would have put it there, for the node attestor x509pop. */
export interface NodeCertificate {
  readonly certificatePem: string
  readonly privateKeyPem: string
  /** Lower-case hex SHA-1 of the certificate: the last part of the agent's SPIFFE ID. */
  readonly fingerprint: string
}

/** A CA for the certificates of the demo's three machines. */
export async function machineAuthority() {
  const signer = await generateSigner('ec-p256')
  const name = encodeName({ organization: ['Demo'], commonName: 'machines' })
  const now = Math.floor(Date.now() / 1000)
  const validity = { notBefore: now - 60, notAfter: now + DAY }
  const own = await signCertificate(
    {
      kind: 'ca',
      serial: randomSerial(random),
      subject: name,
      spki: signer.publicKey,
      ...validity,
      uri: 'demo://machines',
    },
    issuerOf(signer, name),
  )
  const issuer = issuerOf(signer, name, subjectKeyId(signer.publicKey))

  async function issue(machine: string): Promise<NodeCertificate> {
    const key = await generateSigner('ec-p256')
    const der = await signCertificate(
      {
        kind: 'svid',
        serial: randomSerial(random),
        subject: encodeName({ organization: ['Demo'], commonName: machine }),
        spki: key.publicKey,
        ...validity,
        uri: `demo://machines/${machine}`,
      },
      issuer,
    )
    return {
      certificatePem: encodePem('CERTIFICATE', der),
      privateKeyPem: encodePem('PRIVATE KEY', key.exportPrivateKey()),
      fingerprint: createHash('sha1').update(der).digest('hex'),
    }
  }

  return { pem: encodePem('CERTIFICATE', own), issue }
}
