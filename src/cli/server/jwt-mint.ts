import { serverCommand } from '../api-command.ts'
import { idMessage, int32 } from '../arguments.ts'
import { explained } from '../client.ts'
import { CommandError } from '../failure.ts'
import { joinPath, writePrivate } from '../files.ts'
import { duration, text, texts } from '../flags.ts'
import { svids } from './svid-methods.ts'
import { warnOfLifetime } from './token-expiry.ts'

/** `jwt mint`: a JWT-SVID for any ID, printed or written to a file of mode 0600. */
export const command = serverCommand({
  name: 'jwt mint',
  flags: {
    spiffeID: text('SPIFFE ID of the JWT-SVID'),
    ttl: duration('TTL of the JWT-SVID'),
    audience: texts('Audience claim that will be included in the SVID. Can be used more than once.'),
    write: text('File to write token to instead of stdout'),
  },
  async run(flags, { api, print, stdout, stderr, now }) {
    if (flags.spiffeID === '') throw new CommandError('spiffeID must be specified')
    if (flags.audience.length === 0) throw new CommandError('at least one audience must be specified')
    const id = idMessage(flags.spiffeID)
    const ttl = int32(Math.ceil(flags.ttl), 'invalid value for TTL')
    const request = { id, ttl, audience: [...flags.audience] }
    const response = await explained('unable to mint SVID', api.call(svids.mintJwt, request))
    const token = response.svid?.token ?? ''
    if (token === '') throw new CommandError('server response missing token')
    warnOfLifetime('JWT-SVID', token, flags.ttl, { stderr, now })
    if (flags.write === '') print(response, () => stdout(`${token}\n`))
    else {
      const path = joinPath(flags.write)
      writePrivate(path, token, 'unable to write token')
      stdout(`JWT-SVID written to ${path}\n`)
    }
  },
})
