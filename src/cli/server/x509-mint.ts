import { base64 } from '../../core/base64.ts'
import { createCsr } from '../../core/csr.ts'
import { encodePem } from '../../core/pem.ts'
import { rfc3339 } from '../../core/rfc3339.ts'
import { parseSpiffeId } from '../../core/spiffe-id.ts'
import { encodeName } from '../../core/x509-name.ts'
import { generateSigner } from '../../plugins/signer.ts'
import { serverCommand } from '../api-command.ts'
import { int32 } from '../arguments.ts'
import { explained } from '../client.ts'
import { CommandError } from '../failure.ts'
import { joinPath, writePrivate, writePublic } from '../files.ts'
import { duration, text, texts } from '../flags.ts'
import { goJson } from '../output.ts'
import { bundles } from './bundle-methods.ts'
import { svids } from './svid-methods.ts'

/** `x509 mint`: a key made here and an X509-SVID for it, printed or written to a directory; the key file has mode 0600. */
export const command = serverCommand({
  name: 'x509 mint',
  flags: {
    spiffeID: text('SPIFFE ID of the X509-SVID'),
    ttl: duration('TTL of the X509-SVID'),
    dns: texts('DNS name that will be included in SVID. Can be used more than once.'),
    write: text('Directory to write output to instead of stdout'),
  },
  async run(flags, { api, json, stdout, stderr, now }) {
    if (flags.spiffeID === '') throw new CommandError('spiffeID must be specified')
    const uris = [parseSpiffeId(flags.spiffeID)]
    const ttl = int32(Math.ceil(flags.ttl), 'invalid value for TTL')
    const key = await generateSigner('ec-p256')
    const csr = await createCsr({ subject: encodeName({}), uris, dnsNames: flags.dns }, key)
    const { svid } = await explained('unable to mint SVID', api.call(svids.mintX509, { csr, ttl }))
    if (svid === undefined || svid.certChain.length === 0) throw new CommandError('server response missing SVID chain')
    const bundle = await explained('unable to get bundle', api.call(bundles.get, { outputMask: undefined }))
    const roots = bundle.x509Authorities.map(({ asn1 }) => asn1)
    if (roots.length === 0) throw new CommandError('server response missing X509 Authorities')
    if (svid.expiresAt - now() / 1000 < flags.ttl) {
      stderr(`X509-SVID lifetime was capped shorter than specified ttl; expires "${rfc3339(svid.expiresAt)}"\n`)
    }
    const privateKey = key.exportPrivateKey()
    if (flags.write === '' && json) {
      const result = {
        x509_svid: svid.certChain.map(base64),
        private_key: base64(privateKey),
        root_cas: roots.map(base64),
      }
      stdout(`${goJson(result)}\n`)
      return
    }
    const svidPem = certificatesPem(svid.certChain)
    const keyPem = encodePem('PRIVATE KEY', privateKey)
    const rootsPem = certificatesPem(roots)
    if (flags.write === '') {
      stdout(`X509-SVID:\n${svidPem}\nPrivate key:\n${keyPem}\nRoot CAs:\n${rootsPem}\n`)
      return
    }
    const [svidPath, keyPath, rootsPath] = ['svid.pem', 'key.pem', 'bundle.pem'].map((name) =>
      joinPath(flags.write, name),
    ) as [string, string, string]
    writePublic(svidPath, svidPem, 'unable to write SVID')
    stdout(`X509-SVID written to ${svidPath}\n`)
    writePrivate(keyPath, keyPem, 'unable to write key')
    stdout(`Private key written to ${keyPath}\n`)
    writePublic(rootsPath, rootsPem, 'unable to write bundle')
    stdout(`Root CAs written to ${rootsPath}\n`)
  },
})

function certificatesPem(chain: readonly Uint8Array[]): string {
  return chain.map((der) => encodePem('CERTIFICATE', der)).join('')
}
