import { writeFileSync } from 'node:fs'
import { jwkThumbprint } from '../../core/jwk.ts'
import { encodePem } from '../../core/pem.ts'
import { generateSigner } from '../../plugins/signer.ts'
import { defineCommand } from '../command.ts'
import { CommandError, fileError } from '../failure.ts'
import { text } from '../flags.ts'

/** `operator keygen`: makes a key with which somebody administrates a server over HTTPS. */
export const command = defineCommand({
  name: 'operator keygen',
  flags: { out: text('File to write the private key to; it must not be there yet') },
  errorPrefix: 'Error: ',
  async run({ out }, { stdout }) {
    if (out === '') throw new CommandError('-out must name the file for the private key, such as -out operator.pem')
    const key = await generateSigner('ec-p256')
    try {
      writeFileSync(out, encodePem('PRIVATE KEY', key.exportPrivateKey()), { mode: 0o600, flag: 'wx' })
    } catch (error) {
      throw fileError(error, 'open', out)
    }
    const thumbprint = await jwkThumbprint(key.publicKey)
    stdout(`Private key written to ${out}: keep it to yourself.
Thumbprint: ${thumbprint}

Let its holder administrate a server over HTTPS:
  server { experimental { http { operator_keys = ["${thumbprint}"] } } }
and use it:
  turret-server entry show -serverURL https://... -serverTrustBundle bundle.pem -operatorKey ${out}
`)
  },
})
